"""Rules for tables: cells become null, alike, typed or repaired, and impossible rows go."""

import datetime
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.cleaning import parsing, table_cells
from tasks.cleaning.parsing import Cell
from tasks.cleaning.rules import Reasons, RuleOutcome, row_rule, table_rule
from tasks.core.errors import StageError
from tasks.recipe.cleaning_rules import ColumnType, RangeLimit, ValueRange
from tasks.rows import table_columns

WHITE_SPACE_PATTERN = r"[\s\p{Z}\x{200B}\x{FEFF}]+"
MAX_SHOWN_CHARACTERS = 40  # of a cell in a reason
# Votes from which on a row that disagrees with most has a wrong key, rather than wrong cells.
MIN_VOTES_AGAINST_KEY = 3
# Tukey's outer fences; what Iglewicz and Hoaglin recommend.
OUTLIER_FACTORS = {"iqr": 3.0, "mad": 3.5}
# The standard deviation of a normal distribution over its median absolute deviation.
STD_PER_MAD = 1.4826
Key = tuple[Cell | str | None, ...]  # the cells of a row by which rows are joined

EPOCH = datetime.date(1970, 1, 1)
ARROW_TYPES = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}


@row_rule("trim")
def trim_cells(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Remove white space at the ends, and collapse runs of it, of any kind, to one blank."""
    trimmed = {}
    for name in table_cells.select_text_columns(table, "trim", columns, ["id"]):
        collapsed = pc.replace_substring_regex(table[name], WHITE_SPACE_PATTERN, " ")
        trimmed[name] = pc.utf8_trim_whitespace(collapsed)
    return table_cells.replace_columns(table, trimmed)


@row_rule("missing")
def replace_missing_markers(
    table: pa.Table, markers: Sequence[str], columns: Sequence[str] | None
) -> pa.Table:
    """Replace cells that only say that a value is missing by null.

    Letter case and white space at the ends do not count. A class may be called none, so the
    label is changed only if it is named.
    """
    wanted = pa.array(sorted({marker.strip().lower() for marker in markers}), pa.string())
    null = pa.scalar(None, pa.string())
    replaced = {}
    for name in table_cells.select_text_columns(table, "missing", columns, ["id", "label"]):
        words = pc.utf8_lower(pc.utf8_trim_whitespace(table[name]))
        replaced[name] = pc.if_else(pc.is_in(words, wanted), null, table[name])
    return table_cells.replace_columns(table, replaced)


@row_rule("types")
def parse_types(table: pa.Table, columns: Mapping[str, ColumnType], unparsed: str) -> RuleOutcome:
    """Parse text to numbers, dates or booleans.

    Args:
        table: The rows.
        columns: The types by column.
        unparsed: Whether a row with a cell that cannot be parsed goes (`reject`), or the cell
            becomes null (`null`).
    """
    reasons: dict[int, list[str]] = defaultdict(list)
    parsed = {}
    for name in table_cells.select_text_columns(table, "types", list(columns), []):
        cells = table[name].to_pylist()
        values, errors = parse_distinct(set(cells) - {None}, columns[name])
        parsed[name] = pa.array(map(values.get, cells), ARROW_TYPES[columns[name].type])
        if unparsed != "reject":
            continue
        for row, cell in enumerate(cells):
            if cell in errors:
                shown = repr(cell[:MAX_SHOWN_CHARACTERS])
                reasons[row].append(f"{name}: {shown} {errors[cell]}")
    typed = table_cells.replace_columns(table, parsed)
    return RuleOutcome(typed, table_cells.join_reasons(table, reasons))


def parse_distinct(
    cells: set[str], column_type: ColumnType
) -> tuple[dict[str, Cell | None], dict[str, str]]:
    """Parse each cell once. Returns the values, and what is wrong with the other cells."""
    values: dict[str, Cell | None] = {}
    errors: dict[str, str] = {}
    for cell in cells:
        try:
            values[cell] = parsing.parse_cell(cell, column_type)
        except ValueError as error:
            errors[cell] = str(error)
    return values, errors


@row_rule("range")
def reject_out_of_range(table: pa.Table, columns: Mapping[str, ValueRange]) -> Reasons:
    """Reject rows with a cell below `min` or above `max`; null is neither."""
    reasons: dict[int, list[str]] = defaultdict(list)
    for name, bounds in columns.items():
        cells = table_cells.read_numbers(table, "range", name)
        check_bound_types(table, name, bounds)
        is_below = cells < to_number(bounds.min, -np.inf)
        is_above = cells > to_number(bounds.max, np.inf)
        allowed = describe_bounds(bounds)
        for row in np.flatnonzero(is_below | is_above).tolist():
            reasons[row].append(f"{name}: {table[name][row].as_py()} must be {allowed}")
    return table_cells.join_reasons(table, reasons)


def check_bound_types(table: pa.Table, name: str, bounds: ValueRange) -> None:
    """Raise a StageError if dates bound numbers, or numbers bound dates."""
    kind = table[name].type
    limits = bounds.model_dump(exclude_none=True)
    for bound in limits.values():
        if isinstance(bound, str) != pa.types.is_date32(kind):
            raise StageError(
                f"clean: range compares the column {name!r}, which holds {kind}, with {limits}: "
                f"give dates for dates, numbers for numbers."
            )


def to_number(bound: RangeLimit, default: float) -> float:
    """Return a bound as a number, a date as days since 1970."""
    if bound is None:
        return default
    if isinstance(bound, str):
        return float((datetime.date.fromisoformat(bound) - EPOCH).days)
    return bound


def describe_bounds(bounds: ValueRange) -> str:
    """Describe bounds as `at least 0 and at most 120`."""
    parts = []
    if bounds.min is not None:
        parts.append(f"at least {bounds.min}")
    if bounds.max is not None:
        parts.append(f"at most {bounds.max}")
    return " and ".join(parts)


@dataclass(frozen=True)
class UsualRange:
    """What is usual in a column; cells more than factor * scale outside are outliers."""

    low: float
    high: float
    scale: float

    @classmethod
    def of_cells(cls, cells: NDArray[np.float64], method: str) -> "UsualRange":
        """Measure the quartiles (Tukey 1977), or the median absolute deviation.

        The latter is of Iglewicz and Hoaglin (1993). If half of the cells are equal, the scale
        is 0.
        """
        finite = cells[np.isfinite(cells)]
        if not len(finite):
            finite = np.zeros(1)
        if method == "iqr":
            low, high = np.quantile(finite, [0.25, 0.75])
            return cls(low, high, high - low)
        low, high = np.quantile(finite, [0.5, 0.5])
        return cls(low, high, STD_PER_MAD * np.median(np.abs(finite - low)))

    def find_outliers(self, cells: NDArray[np.float64], factor: float) -> NDArray[np.bool_]:
        """Return a mask of shape [rows]; without a scale no cell is an outlier."""
        is_low = cells < self.low - factor * self.scale
        is_high = cells > self.high + factor * self.scale
        return (is_low | is_high) & (self.scale > 0)


@table_rule("outliers")
def handle_outliers(
    table: pa.Table, columns: Sequence[str], method: str, factor: float | None, action: str
) -> RuleOutcome:
    """Reject rows with cells far from the others, or make these cells null.

    Args:
        table: All rows.
        columns: Columns of numbers or dates.
        method: `iqr` or `mad`.
        factor: How many scales outside the usual range a cell must be; None for the method's.
        action: `reject` or `null`.
    """
    reasons: dict[int, list[str]] = defaultdict(list)
    factor = factor or OUTLIER_FACTORS[method]
    without_outliers = {}
    for name in columns:
        cells = table_cells.read_numbers(table, "outliers", name)
        usual = UsualRange.of_cells(cells, method)
        is_outlier = usual.find_outliers(cells, factor)
        null = pa.scalar(None, table[name].type)
        without_outliers[name] = pc.if_else(pa.array(is_outlier), null, table[name])
        for row in np.flatnonzero(is_outlier).tolist():
            reasons[row].append(
                f"{name}: {table[name][row].as_py()} is far outside "
                f"{usual.low:g} to {usual.high:g} ({method}, factor {factor:g})"
            )
    if action == "null":
        return RuleOutcome(table_cells.replace_columns(table, without_outliers))
    return RuleOutcome(table, table_cells.join_reasons(table, reasons))


@table_rule("repair")
def repair_cells(
    table: pa.Table, by: Sequence[str], columns: Sequence[str], share: float
) -> pa.Table:
    """Replace cells by those of the other rows with the same key.

    Args:
        table: All rows.
        by: The columns of the key.
        columns: Rows with equal keys should have equal cells in each of these columns.
        share: The value of more than this fraction of a group's cells replaces the others, and
            null. If most of a row's cells disagree, its key is wrong, and the row stays as it is.
    """
    key_columns = [read_cells(table, name) for name in by]
    keys = list(zip(*key_columns, strict=True))
    cells = {name: read_cells(table, name) for name in columns}
    votes_of = find_votes(keys, cells, share)
    for row, key in enumerate(keys):
        votes = votes_of.get(key, {})
        row_cells = {name: cells[name][row] for name in votes}
        if is_key_wrong(row_cells, votes):
            continue
        for name, value in votes.items():
            cells[name][row] = value
    repaired = {name: pa.array(cells[name], table[name].type) for name in columns}
    return table_cells.replace_columns(table, repaired)


def find_votes(
    keys: Sequence[Key], cells: Mapping[str, Sequence[Cell | str | None]], share: float
) -> dict[Key, dict[str, Cell | str]]:
    """Find for each key the values that most of its rows agree on, by column."""
    votes: dict[Key, dict[str, Cell | str]] = defaultdict(dict)
    for name, column in cells.items():
        for key, value in find_majority_values(keys, column, share).items():
            votes[key][name] = value
    return votes


def read_cells(table: pa.Table, name: str) -> list[Cell | str | None]:
    """Read a column that `repair` names."""
    cells: list[Cell | str | None] = table_columns.get_column(
        table, name, "clean: repair"
    ).to_pylist()
    return cells


def is_key_wrong(cells: Mapping[str, object], votes: Mapping[str, object]) -> bool:
    """Tell whether a row disagrees with most values that others with its key agree on."""
    n_wrong = sum(cells[name] not in (None, value) for name, value in votes.items())
    return len(votes) >= MIN_VOTES_AGAINST_KEY and 2 * n_wrong > len(votes)


def find_majority_values(
    keys: Sequence[Key], cells: Sequence[Cell | str | None], share: float
) -> dict[Key, Cell | str]:
    """Find for each key the value of more than `share` of its cells that are not null.

    A key with null in it joins no rows.
    """
    counts: dict[Key, Counter[Cell | str]] = defaultdict(Counter)
    for key, cell in zip(keys, cells, strict=True):
        if None not in key and cell is not None:
            counts[key][cell] += 1
    majority = {}
    for key, cells_of_key in counts.items():
        [(value, count), *others] = cells_of_key.most_common(2)
        is_tie = any(other_count == count for _, other_count in others)
        if count > share * cells_of_key.total() and not is_tie:
            majority[key] = value
    return majority
