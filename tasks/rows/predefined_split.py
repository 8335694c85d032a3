"""Predefined splits: the parts that a column, the files or the folders of the source name.

A part that the source does not have is cut from train, as a split by hash would.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.split import Split
from tasks.rows import assignment, rejected_rows, split_names, table_columns
from tasks.rows.table_columns import PART_COLUMN
from tasks.storage import layout

RULE = "in no part"
MAX_SHOWN = 5
EXAMPLE = "split: {column: part, train: [a, b], test: [c]}"


@dataclass(frozen=True)
class PredefinedParts:
    """The part of each row, and the values that name no part.

    Attributes:
        source: What names the parts, for messages.
        parts: The part of each row; None if the row is in none.
        values: What the source says of each row.
    """

    source: str
    parts: list[str | None]
    values: list[str | None]

    @property
    def is_known(self) -> pa.Array:
        """Which rows are in a part."""
        return pa.array([part is not None for part in self.parts], pa.bool_())

    def reject_others(self, table: pa.Table) -> pa.Table:
        """Return the rows that are in no part as rejects, each with what the source says."""
        details = [
            f"{self.source} is {'empty' if value is None else repr(value)}"
            for value, part in zip(self.values, self.parts, strict=True)
            if part is None
        ]
        others = table.filter(pa.array([part is None for part in self.parts], pa.bool_()))
        return rejected_rows.build_rejects(others, "split", RULE, pa.array(details, pa.string()))


def read_parts(table: pa.Table, config: Split) -> PredefinedParts | None:
    """Read the part of each row; None if the split is not predefined.

    Raises:
        StageError: A value of the recipe is not in the column, or no value names a part.
    """
    if config.column is not None:
        name = PART_COLUMN if PART_COLUMN in table.column_names else config.column
        column = table_columns.get_column(table, name, "split.column")
        values = [strip_value(value) for value in table_columns.convert_to_text(column).to_pylist()]
        return parse_values(values, config.column, config.named_parts)
    if config.time is None and PART_COLUMN in table.column_names:
        parts = table[PART_COLUMN].to_pylist()
        return PredefinedParts("its place in the source", parts, parts)
    return None


def strip_value(value: str | None) -> str | None:
    """Return a value without the blanks around it; None for an empty one."""
    return (value or "").strip() or None


def parse_values(
    values: Sequence[str | None], column: str, named_parts: Mapping[str, Sequence[str]]
) -> PredefinedParts:
    """Find the part that each value of a column names."""
    counts = Counter(value for value in values if value is not None)
    part_of_value = {value: split_names.parse_split_name(value) for value in counts}
    if named_parts:
        part_of_value = map_named_values(named_parts)
        check_named_values(part_of_value, counts, column)
    parts = [None if value is None else part_of_value.get(value) for value in values]
    if "train" not in parts:
        shown = ", ".join(repr(value) for value, _ in counts.most_common(MAX_SHOWN))
        raise StageError(
            f"split.column: no value of {column!r} names the rows of train; it has "
            f"{shown or 'no values'}: write which are which, as in {EXAMPLE}."
        )
    return PredefinedParts(f"the column {column!r}", parts, list(values))


def map_named_values(named_parts: Mapping[str, Sequence[str]]) -> dict[str, str | None]:
    """Return the part of each value that the recipe names."""
    part_of_value: dict[str, str | None] = {}
    for part, values in named_parts.items():
        part_of_value |= dict.fromkeys(values, part)
    return part_of_value


def check_named_values(
    part_of_value: Mapping[str, str | None], counts: Counter[str], column: str
) -> None:
    """Refuse a value of the recipe that no row has."""
    for value, part in part_of_value.items():
        if value not in counts:
            shown = ", ".join(repr(name) for name, _ in counts.most_common(MAX_SHOWN))
            raise StageError(
                f"split.{part}: no row has {value!r} in the column "
                f"{column!r}{suggest_nearest(value, counts)}; it has {shown or 'no values'}."
            )


def find_file_part(name: str, file_patterns: Mapping[str, Sequence[str]]) -> str | None:
    """Return the part that a file is in, by the recipe's patterns for files and folders."""
    path = PurePosixPath(name)
    places = [path, *path.parents]
    for part, patterns in file_patterns.items():
        for pattern in patterns:
            if any(place.match(pattern) for place in places):
                return part
    return None


def check_file_patterns(names: Sequence[str], file_patterns: Mapping[str, Sequence[str]]) -> None:
    """Refuse a pattern that no file of the source matches."""
    for part, patterns in file_patterns.items():
        for pattern in patterns:
            if not any(find_file_part(name, {part: [pattern]}) for name in names):
                shown = ", ".join(names[:MAX_SHOWN])
                raise StageError(
                    f"split.{part}: {pattern!r} matches no file of the source; it has {shown}: "
                    "correct it, or name the column of the parts in split.column."
                )


@dataclass(frozen=True)
class CompletedParts:
    """The part of each row, and what was cut from train."""

    split_of_row: list[str]
    cut: list[str]  # the parts that the source does not have


def complete_parts(parts: Sequence[str], keys: Sequence[bytes], config: Split) -> CompletedParts:
    """Cut the parts that no row is in from train, by the hash of each row's key."""
    missing = [name for name in layout.SPLITS if name not in parts]
    shares = {"test": config.test_share, "val": config.val_share}
    cut = [name for name in missing if shares.get(name)]
    split_of_row = list(parts)
    for row, (part, key) in enumerate(zip(parts, keys, strict=True)):
        if part == "train":
            fraction = assignment.hash_to_fraction(key, str(config.seed))
            split_of_row[row] = choose_cut(fraction, {name: shares[name] for name in cut})
    return CompletedParts(split_of_row, cut)


def choose_cut(fraction: float, shares: Mapping[str, float]) -> str:
    """Return the part that a row of train is cut off for, or train."""
    for name in ("test", "val"):
        share = shares.get(name, 0.0)
        if fraction < share:
            return name
        fraction -= share
    return "train"


def describe_cuts(cut: Sequence[str], config: Split) -> list[str]:
    """Say which parts the source does not have."""
    shares = {"test": config.test_share, "val": config.val_share}
    return [
        f"split: no labelled row is in a part {name} of the source: {shares[name]:.0%} of those "
        f"of train are cut off for it (split.{name})"
        for name in cut
    ]
