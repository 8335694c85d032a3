"""Check: may this data be used? Great Expectations over the data as it came (`raw`) and as it goes into training (`ready`), and drift since the last time.

Writes checks/<suite>/result.json, failing.parquet with the ids of the rows concerned, and a page, index.html. Where an expectation of severity `fail`
does not hold, the pipeline stops here. Where all do, passed.json lets the next stage begin, and accepted.json keeps the snapshot's profile: DVC leaves
this folder as it is before a run, so that the next snapshot finds it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.checks import drift, expectations
from tasks.checks.drift import AcceptedSnapshot
from tasks.core.errors import StageError
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.storage import files, hashing

ACCEPTED_FILE, FAILING_FILE = "accepted.json", "failing.parquet"
FAILING_SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("expectation", pa.string()),
        ("id", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
    ]
)


def fingerprint_snapshot(sources: Sequence[Path]) -> str:
    """What a snapshot is: the hash of its files."""
    return hashing.hash_json([hashing.sha256(path) for path in sources])


def run_suite(
    recipe: Recipe,
    suite: str,
    table: pa.Table,
    snapshot: str,
    target: Path,
    more: Sequence[dict[str, Any]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Check the rows of `table`; `more` are results of other checks. All is written whether the expectations hold or not. Raises Failure where one does not."""
    accepted = drift.read_accepted(target / ACCEPTED_FILE)
    for path in set(target.glob("*")) - {
        target / ACCEPTED_FILE
    }:  # what the last run wrote may have been of other data
        path.unlink()
    declared, rules = getattr(recipe.check, suite), recipe.check.drift
    rows = table.select(
        [field.name for field in table.schema if not pa.types.is_binary(field.type)]
    )
    results = [
        {**result, "of": "recipe"}
        for result in (expectations.validate_rows(rows, declared, suite) if declared else [])
    ]
    results += [{**result, "of": "split"} for result in more]
    reference = (
        None
        if accepted is None
        else accepted.reference
        if accepted.snapshot == snapshot
        else accepted.profile
    )
    now = drift.build_profile(table, recipe.modality, recipe.problem)
    if rules and reference:
        results += [
            {**result, "of": "drift", "failing": None}
            for result in drift.check_drift(table, now, reference, rules)
        ]
    elif rules:
        notes = [
            *notes,
            "There is no earlier accepted snapshot to compare with: this one is the first.",
        ]
    if stopped := write_results(
        target, f"{recipe.name}: check {suite}", suite, rows.num_rows, results, list(notes)
    ):
        kinds = {result["of"] for result in stopped}
        sections = [
            f"check.{section}"
            for kind, section in (("recipe", suite), ("drift", "drift"))
            if kind in kinds
        ]
        change = f", or change {' and '.join(sections)} in the recipe" if sections else ""
        ids = (
            f", and {target / FAILING_FILE} for the ids"
            if any(result["ids"] for result in stopped)
            else ""
        )
        accept = (
            f" If the data is meant to be so now, delete {target / ACCEPTED_FILE}: it is then compared with nothing."
            if "drift" in kinds
            else ""
        )
        see = f"See {target / 'index.html'}{ids}; mend the data{change}.{accept}"
        raise StageError(
            f"check {suite}: {len(stopped)} of {len(results)} expectations fail. {' '.join(map(describe_result, stopped))} {see}"
        )
    files.write_json(target / "passed.json", {"snapshot": snapshot})
    files.write_json(
        target / ACCEPTED_FILE,
        AcceptedSnapshot(snapshot=snapshot, profile=now, reference=reference).model_dump(),
    )


def write_results(
    target: Path, title: str, suite: str, rows: int, results: list[dict[str, Any]], notes: list[str]
) -> list[dict[str, Any]]:
    """Write all that is for people and print the warnings. Returns the results that stop the run."""
    parts = [FAILING_SCHEMA.empty_table()]
    for number, result in enumerate(results):
        part = result.pop("failing")
        result["ids"] = None if part is None else part.num_rows
        if result["ids"]:
            which = (
                pa.repeat(pa.scalar(number, pa.int32()), part.num_rows),
                pa.repeat(result["expectation"], part.num_rows),
            )
            parts.append(pa.table([*which, *part.columns], schema=FAILING_SCHEMA))
    files.write_table(target / FAILING_FILE, pa.concat_tables(parts), sort="number")
    failed = [result for result in results if not result["success"]]
    warnings = [
        f"check {suite}: {describe_result(result)}"
        for result in failed
        if result["severity"] == "warn"
    ]
    for warning in warnings:
        print(f"warning: {warning}", flush=True)
    files.write_json(
        target / "result.json",
        {
            "rows": rows,
            "success": not failed,
            "results": results,
            "warnings": warnings,
            "notes": notes,
        },
    )
    files.write_text(
        target / "index.html",
        html_pages.render_page("checks", title, rows=rows, results=results, notes=notes),
    )
    return [result for result in failed if result["severity"] == "fail"]


def describe_result(result: dict[str, Any]) -> str:
    arguments = ", ".join(f"{key}={value}" for key, value in result["arguments"].items())
    seen = (
        f"observed {result['observed']}" if result["observed"] is not None else "it does not hold"
    )
    count = (
        f"{result['unexpected']} unexpected values" if result["unexpected"] is not None else seen
    )
    words = (
        map(repr, result["examples"]) if result["of"] == "recipe" else result["examples"]
    )  # the others are words already, not values
    examples = f", such as {', '.join(words)}" if result["examples"] else ""
    return f"{result['expectation']}({arguments}): {count}{examples}."
