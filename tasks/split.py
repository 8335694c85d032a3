"""Split: train, val and test by the hash of each row's content, by its group or by its time, with near-duplicates never on two sides.

    python -m tasks.split support-desk

A row's side depends on the row alone, so it never changes when others come or go, and equal contents share a side. Where near-duplicates fall on
different sides, those on the side that is evaluated stay and the others are set aside in split/rejects.parquet.
"""

from collections import Counter
from pathlib import Path

import pyarrow as pa

from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.rows import (
    assignment,
    dropped_rows,
    label_values,
    leakage,
    near_duplicates,
    rejected_rows,
    stratification,
)
from tasks.storage import files, layout


def split(name: str) -> None:
    folder = layout.recipe_folder(name)
    run(resolved.read_resolved_recipe(name), folder / "labelled", folder / "split")


def run(recipe: Recipe, source: Path, target: Path) -> None:
    section = recipe.split
    table = files.read_table(source / "rows.parquet")
    if section.folds and "fold" in table.column_names:
        raise StageError(
            "split.folds: the data has a column 'fold' already, which the folds would replace: rename it in the source, or remove split.folds."
        )
    rows, placed, bounds, broken = (
        assignment.split_by_time(table, section) if section.time else (table, [], None, [])
    )
    content = near_duplicates.read_contents(rows, recipe.modality)
    keys = assignment.build_group_keys(rows, content, section)
    placed = placed or [
        assignment.choose_split(assignment.hash_to_fraction(key, str(section.seed)), section)
        for key in keys
    ]
    lost, pairs, clusters = leakage.remove_leaking_rows(rows["id"].to_pylist(), content, placed)
    out = rows.take(pa.array(sorted(lost), pa.int64()))
    aside = rejected_rows.build_rejects(
        out,
        "split",
        "near-duplicate on another side",
        pa.array([lost[row] for row in sorted(lost)], pa.string()),
    )
    if section.folds:
        rows = rows.append_column(
            "fold", pa.array(assignment.assign_folds(keys, pairs, section), pa.int32())
        )
    tables = {
        side: rows.filter(
            pa.array(
                [place == side and row not in lost for row, place in enumerate(placed)], pa.bool_()
            )
        )
        for side in leakage.SPLITS
    }
    if section.folds:
        tables |= {side: tables[side].drop_columns(["fold"]) for side in ("test", "val")}
    named = dict(
        zip(
            rows["id"].to_pylist(),
            label_values.assign_strata(recipe.problem, rows["label"].to_pylist()),
            strict=True,
        )
    )
    labels = {
        side: Counter(name for row in part["id"].to_pylist() for name in named[row])
        for side, part in tables.items()
    }
    whole = sum(labels.values(), Counter())
    rules = rejected_rows.write_rejects(target / "rejects.parquet", [*broken, aside], table)
    print(
        dropped_rows.describe_counts(
            "split", table.num_rows, sum(part.num_rows for part in tables.values()), rules
        ),
        flush=True,
    )
    dropped_rows.check_max_dropped(
        "split", table.num_rows, rules, recipe.max_dropped, target / "rejects.parquet"
    )
    if recipe.columns.label:
        stratification.require_learnable_split(
            labels,
            whole,
            sorted({name for names in named.values() for name in names}),
            recipe.problem,
        )
    for side, part in tables.items():
        files.write_table(target / f"{side}.parquet", part)
    sizes = {side: part.num_rows for side, part in tables.items()}
    about = {
        "rows_in": table.num_rows,
        "rows": sizes,
        "rejects": sum(rules.values()),
        "rules": rules,
        "clusters": clusters,
        "time": bounds,
    }
    gaps = {
        side: stratification.compare_class_shares(counts, whole) for side, counts in labels.items()
    }
    members = Counter(tables["train"]["fold"].to_pylist()) if section.folds else None
    files.write_json(
        target / "report.json",
        {**about, "classes": labels, "stratification": gaps, "folds": members},
    )


if __name__ == "__main__":
    main(split)
