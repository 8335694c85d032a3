"""What rules for tables share: choosing, reading and replacing columns, and joining reasons."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.cleaning.rules import Reasons
from tasks.core.errors import StageError
from tasks.rows import table_columns


def select_text_columns(
    table: pa.Table, rule: str, columns: Sequence[str] | None, excluded: Sequence[str]
) -> list[str]:
    """List the named columns, or all columns of text but the excluded ones.

    Raises:
        StageError: A named column does not exist, or holds something else than text.
    """
    if columns is None:
        return [
            field.name
            for field in table.schema
            if pa.types.is_string(field.type) and field.name not in excluded
        ]
    for name in columns:
        kind = table_columns.get_column(table, name, f"clean: {rule}").type
        if not pa.types.is_string(kind):
            raise StageError(
                f"clean: {rule} works on text, and the column {name!r} holds {kind}: "
                f"put it before the rule types."
            )
    return list(columns)


def replace_columns(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Replace columns, each at its place."""
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def join_reasons(table: pa.Table, reasons_by_row: Mapping[int, list[str]]) -> Reasons:
    """Join the reasons against each row to one sentence; rows without any stay."""
    reasons: Reasons = [None] * table.num_rows
    for row, sentences in reasons_by_row.items():
        reasons[row] = "; ".join(sentences)
    return reasons


def read_numbers(table: pa.Table, rule: str, name: str) -> NDArray[np.float64]:
    """Read a column as floats, shape [rows]: NaN for null, days since 1970 for dates.

    Raises:
        StageError: The column does not exist, or holds neither numbers nor dates.
    """
    column = table_columns.get_column(table, name, f"clean: {rule}")
    kind = column.type
    is_date = pa.types.is_date32(kind)
    if not (is_date or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise StageError(
            f"clean: {rule} needs numbers or dates, and the column {name!r} holds {kind}: "
            f"put types: {{columns: {{{name}: number}}}} before it."
        )
    if is_date:
        column = column.cast(pa.int32())
    numbers: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
    return numbers
