"""Clean: apply the recipe's rules in order; count what each changed, and keep what each dropped.

    python -m tasks.clean support-desk

Writes clean/parts/*.parquet, clean/rejects.parquet/, clean/report.json, which names the files that hold the rows, and a page, clean/index.html. Rules that
look at one row at a time, and exact duplicates, are applied to one part of the raw data after the other, so that memory does not grow with the data; a part that is
unchanged since the last run is verified and kept. From the first rule on that needs all rows at once, they are, and clean/rows.parquet holds the result.
"""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.cleaning import RULES, apply, incremental, pii_encryption
from tasks.cleaning.incremental import IncrementalCleaner
from tasks.core import ray_cluster
from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.rows import dropped_rows, rejected_rows
from tasks.storage import code_closure, files, hashing, layout


def clean(name: str) -> None:
    folder = layout.recipe_folder(name)
    run(resolved.read_resolved_recipe(name), folder / "raw", folder / "clean")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    ray_cluster.select_runner(recipe.engine.kind, recipe.engine.address)
    rules = [
        apply.to_rule_call(rule, recipe.modality)
        for rule in recipe.clean.rules
        if isinstance(rule, dict)
    ]
    names = [name for name, _ in rules]
    cut = next(
        (
            at
            for at, name in enumerate(names)
            if RULES[name].whole or (name == "exact_duplicates" and name in names[:at])
        ),
        len(rules),
    )
    raws = files.read_json(source / "snapshot.json")["partitions"]
    like = pa.unify_schemas([pq.read_schema(source / raw["file"]) for raw in raws]).empty_table()
    made_by = code_closure.hash_stage_code("clean") + hashing.hash_json(
        [rules, pii_encryption.compute_key_id(recipe.clean.rules), like.column_names]
    )
    kinds = frozenset(
        kind for rule, arguments in rules if rule == "pii" for kind in arguments["kinds"]
    )  # a report must not show what the data may not
    stream = IncrementalCleaner(source, target, like, rules[:cut], kinds, made_by)
    parts = [
        stream.written(part, tables)
        for part, tables in incremental.prefetch(stream.clean_partition, raws)
    ]
    told = [apply.merge_reports([part["rules"][at] for part in parts]) for at in range(cut)]
    rows_in, rows = (sum(part[key] for part in parts) for key in ("rows_in", "rows"))
    outputs, rejects = (
        [f"parts/{part['file']}" for part in parts],
        [part["file"] for part in parts if incremental.REJECTS_FOLDER in part["sha256"]],
    )
    if cut < len(rules) and rows:
        table = files.read_table([target / output for output in outputs]).sort_by("id")
        table, dropped, more = apply.apply_rules(table, rules[cut:], kinds)
        told, rows, outputs = told + more, table.num_rows, ["rows.parquet"]
        files.write_table(target / "rows.parquet", table)
        if dropped:
            files.write_table(
                target / incremental.REJECTS_FOLDER / "rows.parquet",
                rejected_rows.concat_rejects(dropped, like),
            )
            rejects.append("rows.parquet")
    if rows == 0:
        worst = max(told, key=lambda rule: int(rule["rejected"]))
        raise StageError(
            f"clean: no row is left of {rows_in}; {worst['rule']} dropped {worst['rejected']}: see its arguments in the recipe."
        )
    rejected_rows.complete_rejects_folder(target / incremental.REJECTS_FOLDER, rejects, like)
    by_rule = sum((Counter({rule["rule"]: rule["rejected"]}) for rule in told), Counter[str]())
    print(dropped_rows.describe_counts("clean", rows_in, rows, by_rule), flush=True)
    about = {
        "rows_in": rows_in,
        "rows": rows,
        "rejects": sum(rule["rejected"] for rule in told),
        "rules": told,
        "files": outputs,
    }
    files.write_json(target / "report.json", about)
    files.write_text(
        target / "index.html", html_pages.render_page("cleaning", f"{recipe.name}: clean", **about)
    )
    files.write_json(target / "state.json", {"made_by": made_by, "parts": parts})
    for folder in ("parts", "keys"):
        files.remove_other_files(
            target / folder, [part["file"] for part in parts if folder in part["sha256"]]
        )
    files.remove_other_files(target, outputs)
    dropped_rows.check_max_dropped(
        "clean", rows_in, by_rule, recipe.max_dropped, target / incremental.REJECTS_FOLDER
    )


if __name__ == "__main__":
    main(clean)
