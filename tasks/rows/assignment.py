"""Assignment of rows to splits and folds: by the hash of their content or group, or by time.

A row's split depends on the row alone, so it does not change when other rows come or go.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import timestamps
from tasks.core.errors import StageError
from tasks.recipe.split import Split
from tasks.rows import leakage, near_duplicates, rejected_rows, table_columns

MAX_EXAMPLES = 3
MAX_SHOWN_CHARACTERS = 80  # of a value in a message
MOVING_BOUNDARIES_NOTE = (
    "val_from and test_from are quantiles of these rows, so they move when rows come or go: "
    "write both into the recipe to keep every row in its split."
)

TimeParser = Callable[[Any], float | None]
TIME_PARSERS: tuple[TimeParser, ...] = (timestamps.parse_number, timestamps.parse_timestamp)


def hash_to_fraction(key: bytes, salt: str) -> float:
    """Return a number from 0 to 1 that depends on the key and the salt alone."""
    digest = hashlib.sha256(f"{salt}:".encode() + key).digest()
    return int.from_bytes(digest[:8]) / 2**64


def choose_split(fraction: float, config: Split) -> str:
    """Divide the numbers from 0 to 1 among test, val and train."""
    if fraction < config.test_share:
        return "test"
    if fraction < config.test_share + config.val_share:
        return "val"
    return "train"


def assign_splits(keys: Sequence[bytes], config: Split) -> list[str]:
    """Choose each row's split by the hash of its key."""
    salt = str(config.seed)
    return [choose_split(hash_to_fraction(key, salt), config) for key in keys]


def build_group_keys(table: pa.Table, contents: Sequence[Any], config: Split) -> list[bytes]:
    """Return the key that is hashed for each row: its group, or its content if it has none."""
    content_keys = [near_duplicates.normalize_content(content) for content in contents]
    if not config.group:
        return content_keys
    groups = table_columns.get_column(table, config.group, "split.group").to_pylist()
    return [
        content_key if group is None else str(group).encode()
        for group, content_key in zip(groups, content_keys, strict=True)
    ]


@dataclass(frozen=True)
class TimeBoundaries:
    """The values of the time column at which val and test begin, as given and as numbers."""

    val_from: Any
    test_from: Any
    val_from_number: float
    test_from_number: float
    are_given: bool

    def choose_split(self, time: float) -> str:
        """Put the newest rows into test, those before them into val."""
        if time >= self.test_from_number:
            return "test"
        if time >= self.val_from_number:
            return "val"
        return "train"


@dataclass(frozen=True)
class TimeSplit:
    """The rows whose time is readable with their splits, and the others as rejects."""

    rows: pa.Table
    split_of_row: list[str]
    boundaries: TimeBoundaries
    rejects: pa.Table


def split_by_time(table: pa.Table, config: Split) -> TimeSplit:
    """Split rows by the time in the column `config.time`.

    Raises:
        StageError: The column does not exist, or none of its values is a time.
    """
    column = config.time or ""
    values = table_columns.get_column(table, column, "split.time").to_pylist()
    parse = choose_time_parser(values, config)
    times = [parse(value) for value in values]
    known_times = [time for time in times if time is not None]
    if not known_times:
        raise StageError(describe_unreadable_times(values, parse, config))
    boundaries = given_boundaries(config, parse)
    if boundaries is None:
        boundaries = quantile_boundaries(values, times, parse, config)
    is_known = pa.array([time is not None for time in times], pa.bool_())
    return TimeSplit(
        rows=table.filter(is_known),
        split_of_row=[boundaries.choose_split(time) for time in known_times],
        boundaries=boundaries,
        rejects=reject_unreadable_times(table, values, is_known, parse, column),
    )


def choose_time_parser(values: Sequence[Any], config: Split) -> TimeParser:
    """Choose the parser that reads the given boundaries, and of those the most values."""
    boundaries = [bound for bound in (config.val_from, config.test_from) if bound is not None]

    def reads_boundaries(parse: TimeParser) -> bool:
        return all(parse(boundary) is not None for boundary in boundaries)

    def count_readable(parse: TimeParser) -> int:
        return sum(parse(value) is not None for value in values)

    return max(filter(reads_boundaries, TIME_PARSERS), key=count_readable)


def given_boundaries(config: Split, parse: TimeParser) -> TimeBoundaries | None:
    """Return the boundaries that the recipe gives, or None."""
    if config.val_from is None or config.test_from is None:
        return None
    return build_boundaries(config.val_from, config.test_from, parse, are_given=True)


def quantile_boundaries(
    values: Sequence[Any], times: Sequence[float | None], parse: TimeParser, config: Split
) -> TimeBoundaries:
    """Return the boundaries that give val and test their fractions of the rows."""
    by_time = sorted((time, row) for row, time in enumerate(times) if time is not None)

    def value_at(fraction: float) -> Any:
        position = min(round(len(by_time) * fraction), len(by_time) - 1)
        return values[by_time[position][1]]

    val_from = value_at(1 - config.test_share - config.val_share)
    return build_boundaries(val_from, value_at(1 - config.test_share), parse, are_given=False)


def build_boundaries(
    val_from: Any, test_from: Any, parse: TimeParser, *, are_given: bool
) -> TimeBoundaries:
    """Parse both boundaries."""
    return TimeBoundaries(
        val_from=val_from if isinstance(val_from, int | float) else str(val_from),
        test_from=test_from if isinstance(test_from, int | float) else str(test_from),
        val_from_number=parse(val_from) or 0.0,
        test_from_number=parse(test_from) or 0.0,
        are_given=are_given,
    )


def reject_unreadable_times(
    table: pa.Table, values: Sequence[Any], is_known: pa.Array, parse: TimeParser, column: str
) -> pa.Table:
    """Return the rows whose time is unreadable as rejects, each with its value."""
    expected = describe_time_format(parse)
    details = []
    for value in values:
        if value is None:
            details.append(f"{column} is empty")
        else:
            shown = repr(str(value)[:MAX_SHOWN_CHARACTERS])
            details.append(f"{column} is not a {expected}: {shown}")
    is_unknown = pc.invert(is_known)
    unreadable = pa.array(details, pa.string()).filter(is_unknown)
    return rejected_rows.build_rejects(table.filter(is_unknown), "split", "no time", unreadable)


def describe_time_format(parse: TimeParser) -> str:
    """Name what a parser reads."""
    return "number" if parse is timestamps.parse_number else "date or time of ISO 8601"


def describe_unreadable_times(values: Sequence[Any], parse: TimeParser, config: Split) -> str:
    """Explain that no value of the column is a time."""
    expected = describe_time_format(parse)
    like = "" if config.test_from is None else f", as split.test_from, {config.test_from!r}, is"
    shown = [repr(str(value)[:MAX_SHOWN_CHARACTERS]) for value in values[:MAX_EXAMPLES]]
    return (
        f"split.time: no value of the column {config.time!r} is a {expected}{like}; "
        f"examples: {', '.join(shown)}."
    )


def assign_folds(
    keys: Sequence[bytes], similar_pairs: Sequence[tuple[int, int]], config: Split
) -> list[int]:
    """Assign each row to a fold by a hash; similar rows and rows of one group share a fold.

    Such rows take the smallest hash among them. A row that is like no other keeps its fold
    whatever rows come or go.
    """
    fractions = [hash_to_fraction(key, f"fold:{config.seed}") for key in keys]
    pairs = [*leakage.find_equal_pairs(keys), *similar_pairs]
    for members in near_duplicates.find_clusters(pairs):
        smallest = min(fractions[member] for member in members)
        for member in members:
            fractions[member] = smallest
    n_folds = config.folds or 1
    return [int(fraction * n_folds) for fraction in fractions]
