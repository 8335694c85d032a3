"""Rejected rows: each keeps its cells and gets the stage and rule that rejected it, and why.

No stage drops a row in any other way.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from tasks.storage import files, layout

REASON_COLUMNS = ("step", "rule", "detail")


def build_rejects(
    rows: pa.Table,
    stage: str,
    rule: str | pa.Array | pa.ChunkedArray,
    detail: str | pa.Array | pa.ChunkedArray = "",
) -> pa.Table:
    """Append the columns that say which stage and rule rejected the rows, and why.

    A column of the data that has one of these names is renamed to `data.<name>`.

    Args:
        rows: The rejected rows.
        stage: The stage that rejects them.
        rule: One rule for all rows, or one for each.
        detail: One explanation for all rows, or one for each.
    """
    names = [f"data.{name}" if name in REASON_COLUMNS else name for name in rows.column_names]
    rejects = rows.rename_columns(names)
    for name, value in zip(REASON_COLUMNS, (stage, rule, detail), strict=True):
        column = pa.repeat(pa.scalar(value), rows.num_rows) if isinstance(value, str) else value
        rejects = rejects.append_column(name, column)
    return rejects


def write_rejects(path: Path, parts: list[pa.Table], like: pa.Table) -> dict[str, int]:
    """Write a stage's rejects.parquet and return the number of rows by rule.

    The file is written even if it has no rows, with the columns of `like`.
    """
    empty = build_rejects(like.slice(0, 0), "", "")
    table = concat_rejects([empty, *parts], empty)
    files.write_table(path, table)
    return dict(sorted(Counter(table["rule"].to_pylist()).items()))


def concat_rejects(parts: Sequence[pa.Table], like: pa.Table) -> pa.Table:
    """Join rejects, with the column types of `like`.

    A cell that a later rule parsed becomes text again, as in rows that were rejected before.
    """
    expected = build_rejects(like.slice(0, 0), "", "").schema
    types = {field.name: field.type for field in expected}
    converted = []
    for part in parts:
        fields = [(field.name, types.get(field.name, field.type)) for field in part.schema]
        converted.append(part.cast(pa.schema(fields)))
    return pa.concat_tables(converted, promote_options="permissive")


def complete_rejects_folder(folder: Path, names: Sequence[str], like: pa.Table) -> None:
    """Leave exactly the files `names` in a folder of rejects, or one file without rows.

    So the folder can always be read as one Parquet data set.
    """
    if not names:
        files.write_table(folder / layout.NO_REJECTS, build_rejects(like.slice(0, 0), "", ""))
    files.remove_other_files(folder, names or [layout.NO_REJECTS])
