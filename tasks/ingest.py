"""Ingest: read the source once and keep its rows as they came, one Parquet partition per part of the source.

    python -m tasks.ingest support-desk

Writes raw/*.parquet, raw/rejects.parquet and raw/snapshot.json. Columns that the recipe names become `id`, `text` or `image`, and `label`.
"""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import files, resolve, sources
from tasks.mistakes import nearest
from tasks.recipe import Recipe
from tasks.step import Failure, main


def ingest(name: str) -> None:
    run(resolve.read(name), files.folder_of(name) / "raw")


def run(recipe: Recipe, folder: Path) -> None:
    parts: list[dict[str, Any]] = []
    rejected: list[pa.Table] = []
    seen: set[str] = set()
    like: pa.Table | None = None
    for number, partition in enumerate(sources.partitions(recipe.ingest)):
        table = named(partition.table, recipe, partition.name)
        kept, dropped = unique(with_id(table), seen)
        dropped += [broken_rows(kept, partition.broken)] if partition.broken else []
        rejected += dropped
        file = f"{number:05d}-{partition.sha256[:12]}.parquet"
        files.write_table(folder / file, kept)
        lost = sum(part.num_rows for part in dropped)
        parts.append(
            {
                "source": partition.name,
                "sha256": partition.sha256,
                "file": file,
                "rows_in": table.num_rows + len(partition.broken),
                "rows": kept.num_rows,
                "rejects": lost,
                "bytes": (folder / file).stat().st_size,
            }
        )
        like = kept
    if like is None or not any(part["rows"] for part in parts):
        raise Failure(f"{', '.join(part['source'] for part in parts) or 'the source'} holds no rows: a header alone is not data; check the source.")
    rules = files.write_rejects(folder / "rejects.parquet", rejected, like)
    total = {key: sum(part[key] for part in parts) for key in ("rows_in", "rows", "rejects")}
    files.write_json(folder / "snapshot.json", {"source": recipe.ingest.model_dump(), "partitions": parts, "rules": rules, **total})


def named(table: pa.Table, recipe: Recipe, source: str) -> pa.Table:
    """The table with the pipeline's names for the columns that have a role; all values that are not bytes as text."""
    columns = recipe.columns
    roles = {"id": columns.id, recipe.modality: getattr(columns, recipe.modality, None), "label": columns.label}  # a table's content has no one column
    optional = {"label"} if recipe.label.lookup or recipe.label.keywords else set()
    names = table.column_names
    for role, column in roles.items():
        if column is None or column in names:
            continue
        if role in optional:
            table = table.append_column("label", pa.nulls(table.num_rows, pa.string()))
            continue
        raise Failure(f"{source}: there is no column {column!r}{nearest(column, names)}. It has {', '.join(names)}: correct columns.{role} in the recipe.")
    renames = {column: role for role, column in roles.items() if column in names and column != role}
    clash = sorted(set(renames.values()) & set(names) - set(renames))
    if clash:
        raise Failure(f"{source}: the column {clash[0]!r} would be hidden by the one that columns.{clash[0]} names: rename it in the source.")
    table = table.rename_columns([renames.get(column, column) for column in table.column_names])
    first = [role for role in roles if role in table.column_names]
    table = table.select(first + [column for column in table.column_names if column not in first])
    return pa.table({name: table[name] if name == "image" else sources.as_text(table[name]) for name in table.column_names})


def with_id(table: pa.Table) -> pa.Table:
    """Rows without an id column are named after their content, equal ones counted, so that a name survives inserts and deletes elsewhere."""
    if "id" in table.column_names:
        return table
    counts: dict[str, int] = {}
    ids = []
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        digest = hashlib.sha256(repr(row).encode()).hexdigest()[:16]
        counts[digest] = counts.get(digest, 0) + 1
        ids.append(digest if counts[digest] == 1 else f"{digest}-{counts[digest]}")
    return table.add_column(0, "id", pa.array(ids, pa.string()))


def unique(table: pa.Table, seen: set[str]) -> tuple[pa.Table, list[pa.Table]]:
    """Rows whose id is there and new; the others as rejects."""
    missing = pc.is_null(table["id"])
    doubled = []
    for value in table["id"].to_pylist():
        doubled.append(value in seen)
        if value is not None:
            seen.add(value)
    doubled_mask = pc.and_(pa.array(doubled, pa.bool_()), pc.invert(missing))
    dropped = [files.rejects(table.filter(mask), "ingest", rule) for mask, rule in ((missing, "no id"), (doubled_mask, "id given twice"))]
    return table.filter(pc.invert(pc.or_(missing, doubled_mask))), [part for part in dropped if part.num_rows]


def broken_rows(like: pa.Table, broken: list[tuple[str, str]]) -> pa.Table:
    """Lines that are no rows, with the line itself kept in `detail`."""
    blank = pa.table({field.name: pa.nulls(len(broken), field.type) for field in like.schema})
    return files.rejects(blank, "ingest", "broken row", pa.array([f"{problem}: {line}" for line, problem in broken], pa.string()))


if __name__ == "__main__":
    main(ingest)
