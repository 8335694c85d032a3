"""Assignment."""

import hashlib
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.core import timestamps
from tasks.core.errors import StageError
from tasks.recipe.split import Split
from tasks.rows import leakage, near_duplicates, rejected_rows, table_columns


def hash_to_fraction(key: bytes, salt: str) -> float:
    """A number from 0 to 1 that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}:".encode() + key).digest()[:8]) / 2**64


def choose_split(share: float, section: Split) -> str:
    return (
        "test" if share < section.test else "val" if share < section.test + section.val else "train"
    )


def build_group_keys(table: pa.Table, content: list[Any], section: Split) -> list[bytes]:
    """What a row's side is a hash of: its group, or its content, also where the row has no group."""
    groups = (
        table_columns.get_column(table, section.group, "split.group").to_pylist()
        if section.group
        else [None] * table.num_rows
    )
    return [
        near_duplicates.content_key(value) if group is None else str(group).encode()
        for group, value in zip(groups, content, strict=True)
    ]


def split_by_time(
    table: pa.Table, section: Split
) -> tuple[pa.Table, list[str], dict[str, Any], list[pa.Table]]:
    """The rows whose time can be read, the side of each, the times at which val and test begin, and the other rows as rejects."""
    name = section.time or ""
    values = table_columns.get_column(table, name, "split.time").to_pylist()
    bounds = [bound for bound in (section.val_from, section.test_from) if bound is not None]
    readers = [
        read
        for read in (timestamps.parse_number, timestamps.parse_timestamp)
        if None not in map(read, bounds)
    ]
    read = max(readers, key=lambda one: sum(one(value) is not None for value in values))
    wanted = "number" if read is timestamps.parse_number else "date or time of ISO 8601"
    moments = [read(value) for value in values]
    order = sorted((moment, at) for at, moment in enumerate(moments) if moment is not None)
    if not order:
        kind = f", as split.test_from, {bounds[1]!r}, is" if bounds else ""
        seen = ", ".join(repr(str(value)[:80]) for value in values[:3])
        raise StageError(
            f"split.time: no value of the column {name!r} is a {wanted}{kind}; they are such as {seen}."
        )
    note = (
        None
        if bounds
        else "val_from and test_from are quantiles of these rows and move when rows come or go: write both into the recipe to keep every row."
    )
    bounds = bounds or [
        values[order[min(round(len(order) * part), len(order) - 1)][1]]
        for part in (1 - section.test - section.val, 1 - section.test)
    ]
    val_from, test_from = (read(bound) or 0.0 for bound in bounds)
    placed = [
        "test" if moment >= test_from else "val" if moment >= val_from else "train"
        for moment in moments
        if moment is not None
    ]
    val_told, test_told = (
        bound if isinstance(bound, (int, float)) else str(bound) for bound in bounds
    )
    report = {"column": name, "val_from": val_told, "test_from": test_told, "note": note}
    known = pa.array([moment is not None for moment in moments], pa.bool_())
    details = [
        f"{name} is empty" if value is None else f"{name} is no {wanted}: {str(value)[:80]!r}"
        for value in values
    ]
    lost = pc.invert(known)
    return (
        table.filter(known),
        placed,
        report,
        [
            rejected_rows.build_rejects(
                table.filter(lost), "split", "no time", pa.array(details, pa.string()).filter(lost)
            )
        ],
    )


def assign_folds(keys: list[bytes], alike: list[tuple[int, int]], section: Split) -> list[int]:
    """A fold for each row, by the smallest hash among those that are like it or of its group: a row without such keeps its fold whatever comes or goes."""
    shares = [hash_to_fraction(key, f"fold:{section.seed}") for key in keys]
    for members in near_duplicates.find_clusters([*leakage.find_equal_pairs(keys), *alike]):
        least = min(shares[member] for member in members)
        for member in members:
            shares[member] = least
    return [int(share * (section.folds or 1)) for share in shares]
