"""Drift: how far a snapshot is from the last one that was accepted.

The distance of two distributions is the population stability index over the deciles, or the most
frequent values, of the earlier snapshot.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from tasks.checks import profile
from tasks.checks.profile import Bins, Profile
from tasks.contracts.base import Contract, describe_first_error
from tasks.contracts.check_result import CheckResult, ColumnDriftResult, Severity
from tasks.core.errors import StageError
from tasks.recipe.check import Drift
from tasks.rows import table_columns

MAX_EXAMPLES = 5
MAX_SHIFTS = 2  # bins that a result names
MAX_SHOWN_CHARACTERS = 40  # of a value in an example
RATIO_DIGITS = 4
# Columns that the pipeline fills: an answered queue is no drift of the data.
PIPELINE_COLUMNS = set(table_columns.ROLE_COLUMNS) - {"id", "label"}


class AcceptedSnapshot(Contract):
    """The last accepted snapshot.

    `reference` is the profile that it was compared with, so checking it again ends the same way.
    """

    WRITTEN_BY: ClassVar[str] = "check_raw` or `check_ready"

    schema_version: Literal[1] = 1
    snapshot: str  # fingerprint of its files
    profile: Profile
    reference: Profile | None

    @classmethod
    def read_if_exists(cls, path: Path) -> Self | None:
        """Read what was accepted last; None if nothing was.

        Raises:
            StageError: The file is damaged. It must not be passed over, because the next
                snapshot would then be accepted without a comparison.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise StageError(
                f"{path}, the profile of the last accepted snapshot, is not as it was written "
                f"({describe_first_error(error)}): get it back with "
                f"`dvc checkout --force {path.parent}`, or delete it to accept the next snapshot "
                f"without comparing it."
            ) from None

    def reference_for(self, snapshot: str) -> Profile | None:
        """The profile to compare a snapshot with, by the snapshot's fingerprint."""
        return self.reference if self.snapshot == snapshot else self.profile


def check_drift(
    table: pa.Table, current: Profile, reference: Profile, rules: Drift
) -> Iterator[CheckResult]:
    """Check a snapshot against the profile of an earlier one.

    Args:
        table: The snapshot.
        current: Its profile.
        reference: The profile that it is compared with.
        rules: What the recipe allows; a rule that is off yields no result.
    """
    if rules.rows:
        yield check_row_count(current, reference, rules.rows, rules.severity)
    if rules.columns:
        yield check_columns(current, reference, rules.severity)
    if rules.shares and reference.classes and current.classes:
        yield check_class_shares(current, reference, rules.shares, rules.severity)
    if rules.psi:
        names = (reference.bins.keys() & current.bins.keys()) - PIPELINE_COLUMNS - set(rules.ignore)
        for name in sorted(names):
            column = profile.cast_to_text(table[name])
            bins = reference.bins[name]
            yield check_column_psi(name, column, bins, rules.psi, rules.severity)


def check_row_count(
    current: Profile, reference: Profile, limits: list[float], severity: Severity
) -> CheckResult:
    """Check the number of rows as a multiple of the earlier one."""
    smallest, largest = limits
    ratio = round(current.rows / max(reference.rows, 1), RATIO_DIGITS)
    success = smallest <= ratio <= largest
    return CheckResult(
        expectation="expect_row_count_ratio_to_be_between",
        arguments={"min_value": smallest, "max_value": largest},
        severity=severity,
        success=success,
        source="drift",
        observed=ratio,
        examples=[] if success else [f"{reference.rows} rows → {current.rows}"],
    )


def check_columns(current: Profile, reference: Profile, severity: Severity) -> CheckResult:
    """Check that columns and their types stay."""
    changes = []
    for name in sorted((reference.types.keys() | current.types.keys()) - PIPELINE_COLUMNS):
        before = reference.types.get(name, "none")
        after = current.types.get(name, "none")
        if before != after:
            changes.append(f"{name}: {before} → {after}")
    return CheckResult(
        expectation="expect_columns_and_types_to_stay",
        arguments={},
        severity=severity,
        success=not changes,
        source="drift",
        unexpected=len(changes),
        examples=changes[:MAX_EXAMPLES],
    )


def check_class_shares(
    current: Profile, reference: Profile, max_change: float, severity: Severity
) -> CheckResult:
    """Check that the share of each class stays nearly the same, and that none comes or goes."""
    before = compute_shares(reference.classes)
    after = compute_shares(current.classes)
    names = sorted(before.keys() | after.keys())
    change = {name: abs(after.get(name, 0.0) - before.get(name, 0.0)) for name in names}
    changes = []
    for name in sorted(names, key=lambda name: -change[name]):
        is_in_both = before.get(name) and after.get(name)
        if change[name] > max_change or not is_in_both:
            changes.append(f"{name}: {before.get(name, 0.0):.1%} → {after.get(name, 0.0):.1%}")
    return CheckResult(
        expectation="expect_class_shares_to_change_by_at_most",
        arguments={"max_value": max_change},
        severity=severity,
        success=not changes,
        source="drift",
        unexpected=len(changes),
        examples=changes[:MAX_EXAMPLES],
    )


def compute_shares(counts: dict[str, int]) -> dict[str, float]:
    """Return each class's fraction of the rows."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def check_column_psi(
    name: str, column: pa.ChunkedArray, bins: Bins, max_index: float, severity: Severity
) -> ColumnDriftResult:
    """Check that the distribution of a column stays, as far as chance lets it.

    Args:
        name: The column.
        column: Its values, as text.
        bins: Those of the earlier snapshot.
        max_index: The largest population stability index; a larger one that chance explains is
            accepted too.
        severity: What a failure does.
    """
    current = profile.fill_bins(column, bins)
    index, chance = profile.compute_psi(bins, current)
    success = index <= max(max_index, chance)
    return ColumnDriftResult(
        expectation="expect_column_psi_to_be_at_most",
        arguments={"column": name, "max_value": max_index},
        severity=severity,
        success=success,
        source="drift",
        observed=index,
        examples=[] if success else describe_largest_shifts(bins, current, column),
        kind=bins.kind,
        chance=chance,
    )


def describe_largest_shifts(reference: Bins, current: Bins, column: pa.ChunkedArray) -> list[str]:
    """Describe the bins whose shares moved most."""
    before = np.array(reference.counts) / max(sum(reference.counts), 1)  # [bins]
    after = np.array(current.counts) / max(sum(current.counts), 1)  # [bins]
    names = [*name_bins(reference, column), "other values", "no value"]
    order = sorted(range(len(names)), key=lambda number: -abs(after[number] - before[number]))
    return [
        f"{names[number]}: {before[number]:.1%} → {after[number]:.1%}"
        for number in order[:MAX_SHIFTS]
    ]


def name_bins(bins: Bins, column: pa.ChunkedArray) -> list[str]:
    """Name the bins of values, with the values of a column that are in them."""
    if bins.kind == "category":
        return name_categories(bins, column)
    names = name_ranges(bins.edges)
    if bins.kind == "length":
        names = [f"length {name}" for name in names]
    return names


def name_categories(bins: Bins, column: pa.ChunkedArray) -> list[str]:
    """Name the values of a category, which the bins know by their hashes."""
    shown = {}
    for value in profile.count_values(column):
        shown[profile.hash_value(value)] = repr(value[:MAX_SHOWN_CHARACTERS])
    return [shown.get(name, "a value that is gone") for name in bins.names]


def name_ranges(edges: list[float]) -> list[str]:
    """Name the ranges between edges."""
    if not edges:
        return ["any"]
    shown = [f"{edge:g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(shown)]
    return [f"up to {shown[0]}", *between, f"over {shown[-1]}"]
