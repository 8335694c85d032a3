"""Clean: apply the recipe's rules in order; count what each changed, and keep what each dropped.

    python -m tasks.clean support-desk

Writes clean/rows.parquet, clean/rejects.parquet and clean/report.json.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.compute as pc
from daft import DataType, col

from tasks import files, resolve
from tasks.cleaning import RULES
from tasks.cleaning.text import masked
from tasks.recipe import Recipe
from tasks.step import Failure, main

EXAMPLES = 3


def clean(name: str) -> None:
    folder = files.folder_of(name)
    run(resolve.read(name), folder / "raw", folder / "clean")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    raw = files.read_table([source / part["file"] for part in files.read_json(source / "snapshot.json")["partitions"]])
    table = raw.sort_by("id")
    named = [next(iter(rule.items())) for rule in recipe.clean.rules if isinstance(rule, dict)]
    report: list[dict[str, Any]] = []
    dropped: list[pa.Table] = []
    for kind, group in groupby(named, key=lambda rule: RULES[rule[0]].kind):
        if kind == "text":
            table, counted = transformed(table, list(group))
            report += counted
            continue
        for rule, arguments in group:
            if kind == "columns":
                table, out, counted_one = recolumned(table, rule, arguments)
                dropped.append(out)
                report.append(counted_one)
                continue
            reasons = pa.array(RULES[rule].apply(table, **arguments), pa.string())
            out = table.filter(pc.is_valid(reasons))
            dropped.append(files.rejects(out, "clean", rule, reasons.drop_null()))
            table = table.filter(pc.is_null(reasons))
            report.append(
                {"rule": rule, "changed": 0, "rejected": out.num_rows, "examples": dropped[-1].slice(0, EXAMPLES).select(["id", "detail"]).to_pylist()}
            )
    if table.num_rows == 0:
        worst = max(report, key=lambda rule: rule["rejected"])
        raise Failure(f"clean: no row is left of {raw.num_rows}; {worst['rule']} dropped {worst['rejected']}: see its arguments in the recipe.")
    files.write_table(target / "rows.parquet", table)
    rules = files.write_rejects(target / "rejects.parquet", dropped, raw)
    files.write_json(target / "report.json", {"rows_in": raw.num_rows, "rows": table.num_rows, "rejects": sum(rules.values()), "rules": report})


def recolumned(table: pa.Table, rule: str, arguments: dict[str, Any]) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """The table after a rule that changes cells, the rows that it drops with the cells that they had before, and how many rows it changed, with examples."""
    made = RULES[rule].apply(table, **arguments)
    after, said = made if isinstance(made, tuple) else (made, [None] * table.num_rows)
    reasons = pa.array(said, pa.string())
    stays = pc.is_null(reasons)
    out = files.rejects(table.filter(pc.invert(stays)), "clean", rule, reasons.drop_null())
    table, after = table.filter(stays), after.filter(stays)
    examples = out.slice(0, EXAMPLES).select(["id", "detail"]).to_pylist()
    touched = pa.array([False] * table.num_rows)
    for name in table.column_names:
        if table[name].equals(after[name]):
            continue
        old, new = table[name].cast(pa.string()), after[name].cast(pa.string())  # the number 39 is no change of the text 39
        differs = pc.or_(pc.fill_null(pc.not_equal(old, new), False), pc.xor(pc.is_null(old), pc.is_null(new)))
        touched = pc.or_(touched, differs)
        first = [index for index, changed in enumerate(differs.to_pylist()) if changed][:EXAMPLES]
        examples += [{"id": table["id"][at].as_py(), "column": name, "before": old[at].as_py(), "after": new[at].as_py()} for at in first]
    return after, out, {"rule": rule, "changed": pc.sum(touched).as_py() or 0, "rejected": out.num_rows, "examples": examples}


def transformed(table: pa.Table, rules: list[tuple[str, dict[str, Any]]]) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The table after these rules, as one Daft plan, and for each rule how many texts it changed, with examples."""
    steps = ["text", *(f"__{number}" for number in range(len(rules)))]
    plan = daft.from_arrow(table)
    for before, after, rule in zip(steps, steps[1:], rules, strict=False):
        plan = plan.with_column(after, RULES[rule[0]].apply(col(before), **rule[1]))
    plan = plan.collect()
    counts = plan.agg(
        *((col(before) != col(after)).cast(DataType.int64()).sum().alias(after) for before, after in zip(steps, steps[1:], strict=False))
    ).to_pydict()
    shown_as = masked if any(rule == "personal_data" for rule, _ in rules) else lambda text: text  # a report must not show what the data may not
    report = []
    for before, after, rule in zip(steps, steps[1:], rules, strict=False):
        changed = plan.where(col(before) != col(after)).sort("id").limit(EXAMPLES)
        shown = changed.select("id", shown_as(col(before)).alias("before"), shown_as(col(after)).alias("after")).to_pylist()
        report.append({"rule": rule[0], "changed": counts[after][0] or 0, "rejected": 0, "examples": shown})
    done = plan.with_column("text", col(steps[-1])).select(*table.column_names).to_arrow()
    return done.cast(table.schema), report


if __name__ == "__main__":
    main(clean)
