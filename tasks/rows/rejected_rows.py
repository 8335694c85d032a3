"""Rejected rows."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tasks.storage import files


def build_rejects(
    rows: pa.Table, step: str, rule: str | pa.ChunkedArray, detail: str | pa.ChunkedArray = ""
) -> pa.Table:
    """The same rows with the columns that say who dropped them and why. No step drops a row in any other way.

    A column of the data that has one of these names is called `data.<name>`."""
    about = {"step": step, "rule": rule, "detail": detail}
    rows = rows.rename_columns(
        [f"data.{name}" if name in about else name for name in rows.column_names]
    )
    for name, value in about.items():
        rows = rows.append_column(
            name,
            pa.array([value] * rows.num_rows, pa.string()) if isinstance(value, str) else value,
        )
    return rows


def write_rejects(path: Path, parts: list[pa.Table], like: pa.Table) -> dict[str, int]:
    """Write a step's rejects.parquet (also when empty, with the columns of `like`) and return the number of rows by rule."""
    empty = build_rejects(like.slice(0, 0), "", "")
    table = concat_rejects([empty, *parts], empty)
    files.write_table(path, table)
    return dict(sorted(Counter(table["rule"].to_pylist()).items()))


def concat_rejects(parts: Sequence[pa.Table], like: pa.Table) -> pa.Table:
    """All rows, with the types of `like`: a cell that was parsed on the way is text again, as in the rows that were dropped before."""
    known = {field.name: field.type for field in build_rejects(like.slice(0, 0), "", "").schema}
    same = [
        part.cast(
            pa.schema([(field.name, known.get(field.name, field.type)) for field in part.schema])
        )
        for part in parts
    ]
    return pa.concat_tables(same, promote_options="permissive")


def complete_rejects_folder(folder: Path, names: Sequence[str], like: pa.Table) -> None:
    """Leave exactly these files in a folder of rejects, or one without rows, so that it can always be read as one Parquet data set."""
    if not names:
        files.write_table(folder / "none.parquet", build_rejects(like.slice(0, 0), "", ""))
    files.remove_other_files(folder, names or ["none.parquet"])
