"""Table columns."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import Failure
from tasks.core.suggest import nearest

ORDINARY_ID = "data.id"  # what a source's column id is called where it does not name the rows
ROLES = (
    "id",
    "label",
    "label_source",
    "label_confidence",
    "fold",
)  # columns that are about a row, not its content


def column(table: pa.Table, name: str, key: str) -> pa.ChunkedArray:
    """The column that this key of the recipe names. Raises Failure where there is none."""
    if name == "id" and ORDINARY_ID in table.column_names:
        raise Failure(
            f"{key}: the source's column 'id' is kept as {ORDINARY_ID!r}, since it does not name the rows: write {ORDINARY_ID} here."
        )
    if name not in table.column_names:
        raise Failure(
            f"{key}: the data has no column {name!r}{nearest(name, table.column_names)}; it has {', '.join(table.column_names)}."
        )
    return table[name]


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of any Arrow type as text, as `cell` does; a number that is none (NaN) is missing, and bytes are UTF-8 where all are."""
    kind = column.type
    if isinstance(kind, pa.ExtensionType) or pa.types.is_dictionary(kind):
        return as_text(
            column.cast(
                kind.storage_type if isinstance(kind, pa.ExtensionType) else kind.value_type
            )
        )
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array(map(cell, column.to_pylist()), pa.string())])


def cell(value: Any) -> str | None:
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
