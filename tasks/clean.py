"""Clean: apply the recipe's rules in order; count what each changed, and keep what each dropped.

    python -m tasks.clean support-desk

Writes clean/rows.parquet, clean/rejects.parquet, clean/report.json and a page, clean/index.html.
"""

from itertools import groupby, islice
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, col

from tasks import files, page, resolve
from tasks.cleaning import RULES, personal
from tasks.recipe import Recipe
from tasks.step import Failure, main

EXAMPLES = 3
CANDIDATES = 30  # rows among which examples without personal data are looked for


def clean(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "raw", folder / "clean")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    raw = files.read_table([source / part["file"] for part in files.read_json(source / "snapshot.json")["partitions"]])
    table = raw.sort_by("id")
    named = [next(iter(rule.items())) for rule in recipe.clean.rules if isinstance(rule, dict)]
    kinds = frozenset(kind for rule, arguments in named if rule == "pii" for kind in arguments["kinds"])  # a report must not show what the data may not
    report: list[dict[str, Any]] = []
    dropped: list[pa.Table] = []
    for kind, group in groupby(named, key=lambda rule: RULES[rule[0]].kind):
        if kind == "text":
            table, counted = transformed(table, list(group), kinds)
            report += counted
            continue
        for rule, arguments in group:
            told: dict[str, Any] = {"rule": rule, "changed": 0, "rejected": 0, "examples": []}
            result = RULES[rule].apply(table, **arguments)
            changed, reasons = (table, result) if kind == "filter" else result if isinstance(result, tuple) else (result, None)
            if kind == "columns":
                told |= differences(table, changed, kinds, rule == "pii")
            if reasons is not None:
                why = pa.array(reasons, pa.string())
                out = files.rejects(changed.filter(pc.is_valid(why)), "clean", rule, why.drop_null())
                dropped.append(out)
                changed = changed.filter(pc.is_null(why))
                told |= {"rejected": out.num_rows, "examples": list(personal.safe(out.slice(0, EXAMPLES).select(["id", "detail"]).to_pylist(), kinds))}
            table = changed
            report.append(told)
    if table.num_rows == 0:
        worst = max(report, key=lambda rule: rule["rejected"])
        raise Failure(f"clean: no row is left of {raw.num_rows}; {worst['rule']} dropped {worst['rejected']}: see its arguments in the recipe.")
    files.write_table(target / "rows.parquet", table)
    rules = files.write_rejects(target / "rejects.parquet", dropped, raw)
    summary = {"rows_in": raw.num_rows, "rows": table.num_rows, "rejects": sum(rules.values()), "rules": report}
    files.write_json(target / "report.json", summary)
    files.write_text(target / "index.html", page.cleaning(f"{recipe.name}: clean", summary))


def differences(table: pa.Table, after: pa.Table, kinds: frozenset[str], removes: bool) -> dict[str, Any]:
    """How many rows a rule changed, with examples; `removes` if it is the one that takes personal data out."""
    examples: list[dict[str, Any]] = []
    touched = pa.array([False] * table.num_rows)
    for name in table.column_names:
        differs = pc.fill_null(pc.not_equal(table[name], after[name]), False)
        differs = pc.or_(differs, pc.xor(pc.is_null(table[name]), pc.is_null(after[name])))
        touched = pc.or_(touched, differs)
        found = []
        for at in pc.indices_nonzero(differs).to_pylist()[: CANDIDATES if kinds else EXAMPLES]:
            new = after[name][at].as_py()
            found.append({"id": table["id"][at].as_py(), "column": name, "before": table[name][at].as_py(), "after": new, "last": None if removes else new})
        examples += islice(personal.safe(found, kinds), EXAMPLES)
    return {"changed": pc.sum(touched).as_py() or 0, "examples": examples}


def transformed(table: pa.Table, rules: list[tuple[str, dict[str, Any]]], kinds: frozenset[str]) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The table after these rules, as one Daft plan, and for each rule how many texts it changed, with examples."""
    steps = ["text", *(f"__{number}" for number in range(len(rules)))]
    plan = daft.from_arrow(table)
    for before, after, rule in zip(steps, steps[1:], rules, strict=False):
        plan = plan.with_column(after, RULES[rule[0]].apply(col(before), **rule[1]))
    plan = plan.collect()
    counts = plan.agg(
        *((col(before) != col(after)).cast(DataType.int64()).sum().alias(after) for before, after in zip(steps, steps[1:], strict=False))
    ).to_pydict()
    report = []
    for before, after, rule in zip(steps, steps[1:], rules, strict=False):
        changed = plan.where(col(before) != col(after)).sort("id").limit(CANDIDATES if kinds else EXAMPLES)
        found = changed.select("id", col(before).alias("before"), col(after).alias("after"), col(steps[-1]).alias("last")).to_pylist()
        shown = list(islice(personal.safe(found, kinds), EXAMPLES))
        report.append({"rule": rule[0], "changed": counts[after][0] or 0, "rejected": 0, "examples": shown})
    done = plan.with_column("text", col(steps[-1])).select(*table.column_names).to_arrow()
    return done.cast(table.schema), report


if __name__ == "__main__":
    main(clean)
