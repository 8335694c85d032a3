"""Row ids: every row that is kept has an id of its own."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.snapshot import IdColumn
from tasks.rows import rejected_rows
from tasks.rows.seen_keys import SeenKeys, hash_rows
from tasks.sources.base import BrokenRow
from tasks.sources.erasure import ErasedIds
from tasks.sources.ingest_settings import IngestSettings

ID_DIGITS = 16  # of the hash that names a row without an id


class IdNotUnique(Exception):  # noqa: N818  no error: the column is then an ordinary one
    """A column `id` that nobody named does not name the rows: a value repeats or is missing."""


@dataclass(frozen=True)
class SelectedRows:
    """The rows of one file, and those that are not kept."""

    rows: pa.Table
    rejects: list[pa.Table]
    duplicates_across_parts: int  # rows, kept or not, that an earlier part has too


def select_rows(
    table: pa.Table, tag: str, seen_ids: SeenKeys, rows_before: int, settings: IngestSettings
) -> SelectedRows:
    """Give each row an id, and reject rows whose id is missing, seen before or to be erased.

    Args:
        table: The rows, with the pipeline's names for columns.
        tag: Ends the id of a row that an earlier part has too, if ids are made here.
        seen_ids: The ids of all rows so far; those of `table` are added.
        rows_before: How many ids come from earlier parts of the source.
        settings: What is to be erased, and what a column `id` is.

    Raises:
        IdNotUnique: The column `id` was found, not named, and does not name the rows.
    """
    table, n_repeated = assign_ids(table, seen_ids, tag)
    is_erased = settings.erased.find_rows(table, settings.id_columns)
    is_missing = pc.is_null(table["id"])
    erased = blank_content(table.filter(is_erased))
    unnamed = table.filter(is_missing)
    candidates = table.filter(pc.invert(pc.or_(is_erased, is_missing)))
    first_rows, is_duplicate = find_duplicates(candidates["id"], seen_ids)
    is_unique = not unnamed.num_rows and not is_duplicate.any()
    if settings.id_column == IdColumn.FOUND and not is_unique:
        raise IdNotUnique
    rejects = [
        rejected_rows.build_rejects(erased, "ingest", "erased"),
        rejected_rows.build_rejects(unnamed, "ingest", "no id"),
        rejected_rows.build_rejects(
            candidates.filter(pa.array(is_duplicate)), "ingest", "id given twice"
        ),
    ]
    n_doubled = int((first_rows < rows_before).sum())
    return SelectedRows(candidates.filter(pa.array(~is_duplicate)), rejects, n_repeated + n_doubled)


def assign_ids(table: pa.Table, seen_ids: SeenKeys, tag: str) -> tuple[pa.Table, int]:
    """Name rows without an id column after their content.

    So a name survives inserts and deletes elsewhere. Equal rows of the table are numbered; rows
    that an earlier part has too carry the tag.

    Returns:
        The table with ids, and how many of its rows carry the tag.
    """
    if "id" in table.column_names:
        return table, 0
    ids = pa.array(hash_contents(table), pa.string())
    is_repeated = pa.array(seen_ids.contains(hash_rows(pa.table({"id": ids}), ["id"])))
    ids = pc.if_else(is_repeated, pc.binary_join_element_wise(ids, tag, "-"), ids)
    return table.add_column(0, "id", ids), int(pc.sum(is_repeated).as_py() or 0)


def hash_contents(table: pa.Table) -> list[str]:
    """Hash each row, whatever the order of its columns, and number rows that are equal."""
    columns = [table[name].to_pylist() for name in sorted(table.column_names)]
    counts: Counter[str] = Counter()
    ids = []
    for row in zip(*columns, strict=True):
        digest = hashlib.sha256(repr(row).encode()).hexdigest()[:ID_DIGITS]
        counts[digest] += 1
        ids.append(digest if counts[digest] == 1 else f"{digest}-{counts[digest]}")
    return ids


def find_duplicates(ids: pa.ChunkedArray, seen_ids: SeenKeys) -> tuple[np.ndarray, np.ndarray]:
    """Add ids to those seen.

    Returns:
        For each id the number of the first row that has it, counted over the whole source, and
        whether that is an earlier row. Both have shape [rows].
    """
    first_number = seen_ids.size
    first_rows = seen_ids.first_rows(hash_rows(pa.table({"id": ids}), ["id"]))
    return first_rows, first_rows < first_number + np.arange(len(ids))


def blank_content(table: pa.Table) -> pa.Table:
    """Return the rows with nothing but their ids."""
    columns = {field.name: pa.nulls(table.num_rows, field.type) for field in table.schema}
    return pa.table(columns | {"id": table["id"]})


def reject_broken_rows(
    schema: pa.Schema, broken: Sequence[BrokenRow], rule: str, erased: ErasedIds
) -> pa.Table:
    """Return rejects for lines or files that are no rows, kept in the column `detail`."""
    blank = pa.table({field.name: pa.nulls(len(broken), field.type) for field in schema})
    details = [erased.describe_broken_row(row) for row in broken]
    return rejected_rows.build_rejects(blank, "ingest", rule, pa.array(details, pa.string()))
