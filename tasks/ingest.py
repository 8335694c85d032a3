"""Ingest: read the source and keep its rows as they came, in Parquet partitions.

    python -m tasks.ingest support-desk

Writes raw/*.parquet (the rows), raw/rejects.parquet/ (lines that are no rows, and rows that are
dropped, with the reason) and raw/snapshot.json (the source, its parts with their versions, and
counts). The columns that the recipe names become `id`, `text` or `image`, and `label`.

Files that an earlier run wrote for an unchanged part of the source are verified and kept; only new
and changed parts are read. The result is the same as if all had been read. Rows whose id
data/<recipe>/erase.csv lists lose their content here, and so everywhere.

A column `id` that the recipe does not name is taken for the ids of the rows only if every row has
one of its own. Otherwise it is kept as an ordinary column, `data.id`, and rows are named after
their content, as those of a source without ids are. Ids to erase are looked for in both columns.
"""

from tasks.contracts.snapshot import IdColumn, Snapshot
from tasks.core import notices
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.rows import dropped_rows, table_columns
from tasks.sources import partitions, previous_snapshot
from tasks.sources.erasure import ErasedIds
from tasks.sources.ingest_settings import IngestSettings
from tasks.sources.row_ids import IdNotUnique
from tasks.storage.layout import StagePaths


def ingest(recipe_name: str) -> None:
    """Ingest the source of a registered recipe."""
    run(resolved.read_resolved_recipe(recipe_name), StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Write the source's rows, say how many, and stop if more are dropped than allowed."""
    snapshot = write_snapshot(recipe, paths)
    print(
        dropped_rows.describe_counts("ingest", snapshot.rows_in, snapshot.rows, snapshot.by_rule),
        flush=True,
    )
    notices.print_warnings(snapshot.warnings)
    if snapshot.id_column == IdColumn.ORDINARY:
        print(describe_ordinary_id(), flush=True)
    dropped_rows.check_max_dropped(
        "ingest", snapshot.rows_in, snapshot.by_rule, recipe.max_dropped, paths.raw.rejects
    )


def write_snapshot(recipe: Recipe, paths: StagePaths) -> Snapshot:
    """Write the rows with the ids of a column `id` if it names them, else with ids made here."""
    settings = IngestSettings.of_recipe(recipe, ErasedIds.read(paths.erased_ids))
    is_unnamed = settings.id_column == IdColumn.FOUND
    if is_unnamed and previous_snapshot.is_id_still_ordinary(paths, settings):
        settings = settings.with_ordinary_id()
    try:
        return partitions.write_snapshot(paths, settings)
    except IdNotUnique:
        return partitions.write_snapshot(paths, settings.with_ordinary_id())


def describe_ordinary_id() -> str:
    """Describe what became of a column `id` that does not name the rows."""
    return (
        "ingest: the column 'id' repeats or lacks values, and columns.id does not name it: it is "
        f"kept as the ordinary column {table_columns.ORDINARY_ID_COLUMN!r}, and rows are named "
        "after their content.\n"
        "ingest: write columns: {id: id} to have it name the rows; of the rows with one id only "
        "the first then stays."
    )


if __name__ == "__main__":
    main(ingest)
