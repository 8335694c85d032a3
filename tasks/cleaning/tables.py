"""Rules for tables: cells become null, alike, typed or repaired, and rows with impossible cells go."""

import datetime
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning import parsing, spelling
from tasks.core.errors import StageError
from tasks.rows import table_columns

WHITE_SPACE_PATTERN = r"[\s\p{Z}\x{200B}\x{FEFF}]+"
MAX_CELL_LENGTH = 40  # characters of a cell in a detail
MIN_VOTES_AGAINST_KEY = 3  # voted cells from which on a row that disagrees with most has a wrong key rather than so many wrong cells
OUTLIER_FACTORS = {
    "iqr": 3.0,
    "mad": 3.5,
}  # Tukey's outer fences; what Iglewicz and Hoaglin recommend


def select_text_columns(
    table: pa.Table, rule: str, columns: Sequence[str] | None, others: Sequence[str]
) -> list[str]:
    """The columns that hold text: those named, or all but `others`."""
    if columns is None:
        return [
            field.name
            for field in table.schema
            if pa.types.is_string(field.type) and field.name not in others
        ]
    for name in columns:
        if not pa.types.is_string(
            kind := table_columns.get_column(table, name, f"clean: {rule}").type
        ):
            raise StageError(
                f"clean: {rule} works on text, and the column {name!r} holds {kind}: put it before the rule types."
            )
    return list(columns)


def replace_columns(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    for name, column in columns.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def join_reasons(table: pa.Table, found: dict[int, list[str]]) -> list[str | None]:
    return ["; ".join(found[row]) if row in found else None for row in range(table.num_rows)]


def trim_cells(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """White space at the ends goes, a run of it becomes one blank; non-breaking spaces and their like are white space too."""
    spaced = {
        name: pc.replace_substring_regex(table[name], WHITE_SPACE_PATTERN, " ")
        for name in select_text_columns(table, "trim", columns, ["id"])
    }
    return replace_columns(
        table, {name: pc.utf8_trim_whitespace(column) for name, column in spaced.items()}
    )


def replace_missing_markers(
    table: pa.Table, markers: Sequence[str], columns: Sequence[str] | None
) -> pa.Table:
    """Cells that only say that nothing is known become null, letter case and white space at the ends ignored. A class may be called none, so
    the label is looked at only where it is named."""
    known = pa.array(sorted({marker.strip().lower() for marker in markers}), pa.string())
    said = {
        name: pc.utf8_lower(pc.utf8_trim_whitespace(table[name]))
        for name in select_text_columns(table, "missing", columns, ["id", "label"])
    }
    return replace_columns(
        table,
        {
            name: pc.if_else(pc.is_in(plain, known), pa.scalar(None, pa.string()), table[name])
            for name, plain in said.items()
        },
    )


ARROW_TYPES = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}


def parse_types(
    table: pa.Table, columns: dict[str, dict[str, Any]], unparsed: str
) -> tuple[pa.Table, list[str | None]]:
    """Text becomes numbers, dates or yes and no; cells that are none become null, or their rows go."""
    found: dict[int, list[str]] = defaultdict(list)
    made = {}
    for name in select_text_columns(table, "types", list(columns), []):
        cells = table[name].to_pylist()
        known: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for cell in set(cells) - {None}:
            try:
                known[cell] = parsing.parse_cell(cell, **columns[name])
            except ValueError as error:
                wrong[cell] = f"{name}: {cell[:MAX_CELL_LENGTH]!r} {error}"
        made[name] = pa.array(
            [known.get(cell) for cell in cells], ARROW_TYPES[columns[name]["type"]]
        )
        for row, cell in enumerate(cells):
            if cell in wrong and unparsed == "reject":
                found[row].append(wrong[cell])
    return replace_columns(table, made), join_reasons(table, found)


def correct_spelling(
    table: pa.Table, columns: Sequence[str], map: dict[str, str], distance: int, ratio: float
) -> pa.Table:
    """Values that are rare and nearly a frequent one become it; those that differ in letter case or white space alone become the most frequent."""

    given = {spelling.normalize_value(value): told for value, told in map.items()}

    def spelt(column: pa.ChunkedArray) -> pa.Array:
        cells: list[Any] = [
            None if cell is None else given.get(spelling.normalize_value(cell), cell)
            for cell in column.to_pylist()
        ]
        right = spelling.find_corrections(
            Counter(cell for cell in cells if cell is not None), distance, ratio
        )
        return pa.array([right.get(cell, cell) for cell in cells], pa.string())

    return replace_columns(
        table,
        {name: spelt(table[name]) for name in select_text_columns(table, "spelling", columns, [])},
    )


def read_numbers(table: pa.Table, rule: str, name: str) -> Any:
    """The column's cells as an array of floats with NaN for null; of dates the days since 1970."""
    column = table_columns.get_column(table, name, f"clean: {rule}")
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date32(kind)):
        raise StageError(
            f"clean: {rule} needs numbers or dates, and the column {name!r} holds {kind}: put types: {{columns: {{{name}: number}}}} before it."
        )
    return (
        (column.cast(pa.int32()) if pa.types.is_date32(kind) else column)
        .cast(pa.float64(), safe=False)
        .to_numpy()
    )


def reject_out_of_range(table: pa.Table, columns: dict[str, dict[str, Any]]) -> list[str | None]:
    """Rows with a cell below `min` or above `max`; null is neither."""
    found: dict[int, list[str]] = defaultdict(list)
    for name, bounds in columns.items():
        cells, given = (
            read_numbers(table, "range", name),
            {end: bound for end, bound in bounds.items() if bound is not None},
        )
        kind = table[name].type
        if any(isinstance(bound, str) != pa.types.is_date32(kind) for bound in given.values()):
            raise StageError(
                f"clean: range compares the column {name!r}, which holds {kind}, with {given}: give dates for dates, numbers for numbers."
            )
        allowed = " and ".join(
            f"at {word} {given[end]}"
            for end, word in (("min", "least"), ("max", "most"))
            if end in given
        )
        for row in np.flatnonzero(
            (cells < convert_bound(given.get("min", -np.inf)))
            | (cells > convert_bound(given.get("max", np.inf)))
        ).tolist():
            found[row].append(f"{name}: {table[name][row].as_py()} must be {allowed}")
    return join_reasons(table, found)


def convert_bound(bound: float | str) -> float:
    """A bound as a number; of a date the days since 1970."""
    return (
        float((datetime.date.fromisoformat(bound) - datetime.date(1970, 1, 1)).days)
        if isinstance(bound, str)
        else bound
    )


def handle_outliers(
    table: pa.Table, columns: Sequence[str], method: str, factor: float | None, action: str
) -> tuple[pa.Table, list[str | None]]:
    """Cells far from the others: by the quartiles (Tukey 1977) or by the median absolute deviation (Iglewicz and Hoaglin 1993). Where at least
    half of the cells are equal there is no scale, and nothing is far."""
    found: dict[int, list[str]] = defaultdict(list)
    factor = factor or OUTLIER_FACTORS[method]
    made = {}
    for name in columns:
        cells = read_numbers(table, "outliers", name)
        known = cells[np.isfinite(cells)] if np.isfinite(cells).any() else np.zeros(1)
        low, high = np.quantile(known, [0.25, 0.75] if method == "iqr" else [0.5, 0.5])
        spread = high - low if method == "iqr" else 1.4826 * np.median(np.abs(known - low))
        far = ((cells < low - factor * spread) | (cells > high + factor * spread)) & (spread > 0)
        made[name] = pc.if_else(pa.array(far), pa.scalar(None, table[name].type), table[name])
        for row in np.flatnonzero(far).tolist():
            found[row].append(
                f"{name}: {table[name][row].as_py()} is far outside {low:g} to {high:g} ({method}, factor {factor:g})"
            )
    return (
        (replace_columns(table, made), [None] * table.num_rows)
        if action == "null"
        else (table, join_reasons(table, found))
    )


def repair_cells(
    table: pa.Table, by: Sequence[str], columns: Sequence[str], share: float
) -> pa.Table:
    """Rows with equal cells in `by` should have equal cells in each of `columns`: what more than `share` of them say replaces the rest, and null.

    Where most of a row's cells (at least WRONG_KEY) disagree, its key is wrong rather than all of them, and the row is left as it is.
    """
    cells = {
        name: table_columns.get_column(table, name, "clean: repair").to_pylist()
        for name in (*by, *columns)
    }
    keys = [None if None in key else key for key in zip(*(cells[name] for name in by), strict=True)]
    voted = {name: find_majority_values(keys, cells[name], share) for name in columns}
    for row, key in enumerate(keys):
        told = {name: voted[name][key] for name in columns if key in voted[name]}
        wrong = [name for name, value in told.items() if cells[name][row] not in (None, value)]
        if len(told) >= MIN_VOTES_AGAINST_KEY and 2 * len(wrong) > len(told):
            continue
        for name, value in told.items():
            cells[name][row] = value
    return replace_columns(
        table, {name: pa.array(cells[name], table[name].type) for name in columns}
    )


def find_majority_values(keys: Sequence[Any], cells: Sequence[Any], share: float) -> dict[Any, Any]:
    """For each key the value of more than `share` of its cells, null not counted, if there is one."""
    counts: dict[Any, Counter[Any]] = defaultdict(Counter)
    for key, cell in zip(keys, cells, strict=True):
        if key is not None and cell is not None:
            counts[key][cell] += 1
    best = {key: found.most_common(2) for key, found in counts.items()}
    return {
        key: top[0][0]
        for key, top in best.items()
        if top[0][1] > share * counts[key].total() and (len(top) == 1 or top[0][1] > top[1][1])
    }
