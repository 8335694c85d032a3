"""Ingest: read the source and keep its rows as they came, in Parquet partitions.

    python -m tasks.ingest support-desk

Writes raw/*.parquet, raw/rejects.parquet/ and raw/snapshot.json. Columns that the recipe names become `id`, `text` or `image`, and `label`.
What lies there already from a part of the source that is unchanged is verified and kept; only new and changed parts are read. The result is
the same as if all had been read. Rows whose id data/<recipe>/erase.csv lists lose their content here, and so everywhere.

A column `id` that the recipe does not name is taken for the rows' names only if every row has one of its own. Otherwise it is an ordinary column,
`data.id`, and rows are named after their content, as those of a source without ids are. What erase.csv lists is looked for in both.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.rows import dropped_rows, table_columns
from tasks.sources import partitions
from tasks.sources.partitions import IdNotUnique
from tasks.storage import layout


def ingest(name: str) -> None:
    folder = layout.recipe_folder(name)
    run(
        resolved.read_resolved_recipe(name),
        folder / "raw",
        partitions.read_erased_ids(folder / "erase.csv"),
    )


def run(recipe: Recipe, folder: Path, erase: Iterable[str] = ()) -> None:
    erased = pa.array(sorted(erase), pa.string())
    kind = (
        partitions.NAMED_ID
        if recipe.columns.id or recipe.ingest.kind in partitions.KINDS_WITH_OWN_IDS
        else partitions.FOUND_ID
    )
    if kind == partitions.FOUND_ID and partitions.is_still_ordinary(recipe, folder, erased):
        kind = partitions.ORDINARY_ID
    try:
        told = partitions.write_snapshot(recipe, folder, erased, kind)
    except IdNotUnique:
        kind = partitions.ORDINARY_ID
        told = partitions.write_snapshot(recipe, folder, erased, kind)
    print(
        dropped_rows.describe_counts("ingest", told["rows_in"], told["rows"], told["rules"]),
        flush=True,
    )
    if kind == partitions.ORDINARY_ID:
        done = f"it is kept as the ordinary column {table_columns.ORDINARY_ID_COLUMN!r}, and rows are named after their content"
        print(
            f"ingest: the column 'id' repeats or lacks values, and columns.id does not name it: {done}.",
            flush=True,
        )
        print(
            "ingest: write columns: {id: id} to have it name the rows; of the rows with one id only the first then stays.",
            flush=True,
        )
    dropped_rows.check_max_dropped(
        "ingest",
        told["rows_in"],
        told["rules"],
        recipe.max_dropped,
        folder / partitions.REJECTS_FOLDER,
    )


if __name__ == "__main__":
    main(ingest)
