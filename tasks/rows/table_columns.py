"""Columns of tables: which are about a row, finding one by its name, and cells as text."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest

# What a source's column `id` is renamed to if it does not identify the rows.
ORDINARY_ID_COLUMN = "data.id"
# Holds what the source says of a row's part of a predefined split.
PART_COLUMN = "predefined_split"
# Columns that are about a row, and not part of its content.
ROLE_COLUMNS = ("id", "label", "label_source", "label_confidence", "fold", PART_COLUMN)


def get_column(table: pa.Table, name: str, key: str) -> pa.ChunkedArray:
    """Return the column that the recipe's key names.

    Raises:
        StageError: There is no such column.
    """
    if name == "id" and ORDINARY_ID_COLUMN in table.column_names:
        raise StageError(
            f"{key}: the source's column 'id' is kept as {ORDINARY_ID_COLUMN!r}, because it does "
            f"not name the rows: write {ORDINARY_ID_COLUMN} here."
        )
    if name not in table.column_names:
        suggestion = suggest_nearest(name, table.column_names)
        raise StageError(
            f"{key}: the data has no column {name!r}{suggestion}; "
            f"it has {', '.join(table.column_names)}."
        )
    return table[name]


def convert_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert values of any Arrow type to text, as `format_cell` does.

    NaN becomes missing. Bytes are read as UTF-8 if all are.
    """
    kind = column.type
    if isinstance(kind, pa.ExtensionType):
        return convert_to_text(column.cast(kind.storage_type))
    if pa.types.is_dictionary(kind):
        return convert_to_text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        cells = [format_cell(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, pa.string())])


def format_cell(value: Any) -> str | None:
    """Write a value as text: nested values and booleans as JSON, bytes as hexadecimal digits."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
