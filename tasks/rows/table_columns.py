"""Table columns."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest

ORDINARY_ID_COLUMN = (
    "data.id"  # what a source's column id is called where it does not name the rows
)
ROLE_COLUMNS = (
    "id",
    "label",
    "label_source",
    "label_confidence",
    "fold",
)  # columns that are about a row, not its content


def get_column(table: pa.Table, name: str, key: str) -> pa.ChunkedArray:
    """The column that this key of the recipe names. Raises Failure where there is none."""
    if name == "id" and ORDINARY_ID_COLUMN in table.column_names:
        raise StageError(
            f"{key}: the source's column 'id' is kept as {ORDINARY_ID_COLUMN!r}, since it does not name the rows: write {ORDINARY_ID_COLUMN} here."
        )
    if name not in table.column_names:
        raise StageError(
            f"{key}: the data has no column {name!r}{suggest_nearest(name, table.column_names)}; it has {', '.join(table.column_names)}."
        )
    return table[name]


def convert_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of any Arrow type as text, as `cell` does; a number that is none (NaN) is missing, and bytes are UTF-8 where all are."""
    kind = column.type
    if isinstance(kind, pa.ExtensionType) or pa.types.is_dictionary(kind):
        return convert_to_text(
            column.cast(
                kind.storage_type if isinstance(kind, pa.ExtensionType) else kind.value_type
            )
        )
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array(map(format_cell, column.to_pylist()), pa.string())])


def format_cell(value: Any) -> str | None:
    """A value as text: nested ones and truth values as JSON, bytes in hexadecimal digits."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return (
        json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, (dict, list, bool))
        else str(value)
    )
