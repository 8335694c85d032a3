"""Check: may this data be used? Great Expectations over the data as it came (`raw`) and as it goes into training (`ready`), and drift since the last time.

    python -m tasks.check_raw support-desk

Writes checks/<suite>/result.json, failing.parquet with the ids of the rows concerned, and a page, index.html. Where an expectation of severity `fail`
does not hold, the pipeline stops here. Where all do, passed.json lets the next stage begin, and accepted.json keeps the snapshot's profile: DVC leaves
this folder as it is before a run, so that the next snapshot finds it.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import drift, expectations, files, page
from tasks.drift import Accepted
from tasks.expectations import Declared
from tasks.recipe import Recipe
from tasks.step import Failure

ACCEPTED, FAILING = "accepted.json", "failing.parquet"
LONG = 200  # characters of a value that failing.parquet keeps


def fingerprint(sources: Sequence[Path]) -> str:
    """What a snapshot is: the hash of its files."""
    return files.digest([files.sha256(path) for path in sources])


def run(recipe: Recipe, suite: str, table: pa.Table, snapshot: str, target: Path, more: list[dict[str, Any]] | None = None, notes: Sequence[str] = ()) -> None:
    """Check the rows of `table`; `more` are results of other checks. All is written whether the expectations hold or not. Raises Failure where one does not."""
    accepted = drift.read(target / ACCEPTED)
    clear(target)
    declared: Declared = getattr(recipe.check, suite)
    rows = table.select([name for name in table.column_names if name != "image"])
    results = [
        {**result, "of": "recipe", "failing": failing(rows, result)}
        for result in (expectations.validate(rows.to_pandas(), declared, suite) if declared else [])
    ]
    results += [{**result, "of": "split"} for result in more or []]
    reference = None if accepted is None else accepted.reference if accepted.snapshot == snapshot else accepted.profile
    now = drift.profile(table, recipe.problem)
    if recipe.check.drift and reference:
        results += [{**result, "of": "drift", "failing": None} for result in drift.compare(table, now, reference, recipe.check.drift)]
    if recipe.check.drift and not reference:
        notes = [*notes, "There is no earlier accepted snapshot to compare with: this one is the first."]
    stopped = write(target, f"{recipe.name}: check {suite}", suite, rows.num_rows, results, list(notes))
    if stopped:
        kinds = {result["of"] for result in stopped}
        sections = [f"check.{section}" for kind, section in (("recipe", suite), ("drift", "drift")) if kind in kinds]
        change = f", or change {' and '.join(sections)} in the recipe" if sections else ""
        raise Failure(
            f"check {suite}: {len(stopped)} of {len(results)} expectations fail. {' '.join(map(told, stopped))} See {target / 'index.html'}"
            f"{f', and {target / FAILING} for the ids' if any(result['ids'] for result in stopped) else ''}; mend the data{change}."
            f"{f' If the data is meant to be so now, delete {target / ACCEPTED}: it is then compared with nothing.' if 'drift' in kinds else ''}"
        )
    files.write_json(target / "passed.json", {"snapshot": snapshot})
    files.write_json(target / ACCEPTED, Accepted(snapshot=snapshot, profile=now, reference=reference).model_dump())


def clear(target: Path) -> None:
    """Take away what the last run wrote, which may have been of other data; what was accepted stays."""
    for path in target.iterdir() if target.is_dir() else ():
        if path.name != ACCEPTED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def failing(rows: pa.Table, result: dict[str, Any]) -> pa.Table | None:
    """The id of each row that a failing expectation is about, with its value; None where it is about no single rows."""
    numbers = result["numbers"]
    if numbers is None:
        return None
    columns = expectations.columns_of(result["arguments"])
    at = pa.array([] if result["success"] else numbers, pa.int64())
    values = [pc.utf8_slice_codeunits(drift.as_text(rows[name].take(at)).cast(pa.string()), 0, LONG) for name in columns]
    value = values[0] if len(values) == 1 else pc.binary_join_element_wise(*values, ", ", null_handling="replace", null_replacement="null")
    return pa.table({"id": rows["id"].take(at).cast(pa.string()), "column": pa.array([", ".join(columns)] * len(at), pa.string()), "value": value})


def write(target: Path, title: str, suite: str, rows: int, results: list[dict[str, Any]], notes: list[str]) -> list[dict[str, Any]]:
    """Write all that is for people and print the warnings. Returns the results that stop the run."""
    parts = []
    for number, result in enumerate(results):
        part = result.pop("failing")
        result.pop("numbers", None)
        result["ids"] = None if part is None else part.num_rows
        if part is not None and part.num_rows:
            count = part.num_rows
            parts.append(
                part.add_column(0, "expectation", pa.array([result["expectation"]] * count, pa.string())).add_column(
                    0, "number", pa.array([number] * count, pa.int32())
                )
            )
    empty = pa.schema(
        [("number", pa.int32()), ("expectation", pa.string()), ("id", pa.string()), ("column", pa.string()), ("value", pa.string())]
    ).empty_table()
    files.write_table(target / FAILING, pa.concat_tables([empty, *parts]), sort="number")
    failed = [result for result in results if not result["success"]]
    warnings = [f"check {suite}: {told(result)}" for result in failed if result["severity"] == "warn"]
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    files.write_json(target / "result.json", {"rows": rows, "success": not failed, "results": results, "warnings": warnings, "notes": notes})
    files.write_text(target / "index.html", page.checks(title, rows, results, notes))
    return [result for result in failed if result["severity"] == "fail"]


def told(result: dict[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in dict(result["arguments"]).items())
    seen = f"observed {result['observed']}" if result["observed"] is not None else "it does not hold"
    count = f"{result['unexpected']} unexpected values" if result["unexpected"] is not None else seen
    words = map(repr, result["examples"]) if result["of"] == "recipe" else result["examples"]  # the others are words already, not values
    examples = f", such as {', '.join(words)}" if result["examples"] else ""
    return f"{result['expectation']}({arguments}): {count}{examples}."
