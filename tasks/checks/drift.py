"""Drift: how far a snapshot is from the last one that was accepted, by a profile that holds counts and no row.

The distance of two distributions is the population stability index (Siddiqi, Credit Risk Scorecards, 2006), over the deciles of the earlier snapshot.
"""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError
from scipy.special import chdtri

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.recipe.base import Section
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns

MAX_CATEGORIES, MIN_ROWS_PER_CATEGORY = (
    50,
    10,
)  # a category has at most so many values, each so many times on average
MAX_COUNTED_VALUES = 20  # values of a category that are counted each, the rest together
MAX_CLASSES = 1000  # more different labels than this are no classes
MIN_NUMERIC_FRACTION = (
    0.95  # the share of texts that are numbers, from which on a column of texts is one of numbers
)
NUMBER_PATTERN = r"^\s*[+-]?(\d{1,18}\.?\d*|\.\d+)([eE][+-]?\d{1,2})?\s*$"
SIGNIFICANCE_LEVEL = 0.001  # the chance of a larger index between samples of one distribution
MAX_EXAMPLES = 5
PIPELINE_COLUMNS = set(table_columns.ROLE_COLUMNS) - {
    "id",
    "label",
}  # what the pipeline says of a row: an answered queue is no drift of the data


class Bins(Section):
    """A column's values in bins: one for each value of a category (named by its hash), or between the `edges` of numbers or of lengths.

    The last two of `counts` are those of other values and of none.
    """

    kind: Literal["category", "number", "length"]
    edges: list[float]
    names: list[str]
    counts: list[int]


class Profile(Section):
    rows: int
    types: dict[str, str]
    classes: dict[str, int]
    bins: dict[str, Bins]


class AcceptedSnapshot(Section):
    """The last accepted snapshot by its fingerprint, its profile, and the one that it was compared with, so that checking it again ends the same way."""

    snapshot: str
    profile: Profile
    reference: Profile | None


def read_accepted(path: Path) -> AcceptedSnapshot | None:
    """What was accepted last, or None at the first time."""
    try:
        return AcceptedSnapshot.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        mend = f"get it back with `dvc checkout --force {path.parent}`, or delete it to accept the next snapshot without comparing it"
        raise StageError(
            f"{path}, the profile of the last accepted snapshot, is not as it was written ({errors.first_line(error)}): {mend}."
        ) from None


def build_profile(table: pa.Table, modality: str, problem: str = "classification") -> Profile:
    """Counts of a snapshot. Of a text only its length is counted; values of other columns are hashed; classes are named."""
    columns = {name: cast_to_text(table[name]) for name in table.column_names if name != "id"}
    classes = (
        count_values(columns["label"]) if "label" in columns and problem == "classification" else {}
    )
    classes = dict(sorted(classes.items())) if len(classes) <= MAX_CLASSES else {}
    bins = {
        name: fill_bins(column, choose_bins(column, column_role(name, modality, problem)))
        for name, column in columns.items()
    }
    return Profile(
        rows=table.num_rows,
        types={field.name: str(field.type) for field in table.schema},
        classes=classes,
        bins=bins,
    )


def cast_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column's values as text; bytes stay."""
    return (
        column
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
        else table_columns.convert_to_text(column)
    )


def count_values(column: pa.ChunkedArray) -> dict[Any, int]:
    return {one["values"]: one["counts"] for one in column.drop_null().value_counts().to_pylist()}


def column_role(name: str, modality: str, problem: str) -> str:
    """What a column is to the model: its text, its class, or neither."""
    if name == "label" and problem == "classification":
        return "class"
    return "text" if name == CONTENT_COLUMN[modality] == "text" else ""


def choose_bins(column: pa.ChunkedArray, role: str) -> Bins:
    """The bins that suit a column: a category's most frequent values, or deciles."""
    there = column.drop_null()
    if role != "text" and pa.types.is_string(there.type):
        if pc.count_distinct(there).as_py() <= (
            MAX_CLASSES
            if role == "class"
            else min(MAX_CATEGORIES, len(there) / MIN_ROWS_PER_CATEGORY)
        ):
            often = sorted(count_values(there).items(), key=lambda item: (-item[1], item[0]))[
                :MAX_COUNTED_VALUES
            ]
            return Bins(
                kind="category",
                edges=[],
                names=[hash_value(value) for value, _ in often],
                counts=[],
            )
        found = measure_values("number", there)
        if len(found) >= MIN_NUMERIC_FRACTION * len(there):
            return Bins(kind="number", edges=compute_deciles(found), names=[], counts=[])
    return Bins(
        kind="length", edges=compute_deciles(measure_values("length", there)), names=[], counts=[]
    )


def hash_value(value: Any) -> str:
    return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()[:16]


def measure_values(kind: str, column: pa.ChunkedArray) -> Any:
    """The lengths of the values, or those of them that are finite numbers."""
    text = pa.types.is_string(column.type)
    if kind == "length":
        return (pc.utf8_length if text else pc.binary_length)(column).cast(pa.float64()).to_numpy()
    return (
        pc.utf8_trim_whitespace(column.filter(pc.match_substring_regex(column, NUMBER_PATTERN)))
        .cast(pa.float64())
        .to_numpy()
        if text
        else np.empty(0)
    )


def compute_deciles(values: Any) -> list[float]:
    return (
        [
            float(edge)
            for edge in np.unique(np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf"))
        ]
        if len(values)
        else []
    )


def fill_bins(column: pa.ChunkedArray, like: Bins) -> Bins:
    """The column's values counted in the bins of `like`."""
    there = column.drop_null()
    if like.kind == "category":
        by_name = {hash_value(value): count for value, count in count_values(there).items()}
        counts = [by_name.get(name, 0) for name in like.names]
    else:
        counts = np.bincount(
            np.searchsorted(like.edges, measure_values(like.kind, there)),
            minlength=len(like.edges) + 1,
        ).tolist()
    return like.model_copy(
        update={"counts": [*counts, len(there) - sum(counts), len(column) - len(there)]}
    )


def compute_psi(old: Bins, new: Bins) -> tuple[float, float]:
    """The index, and the value that it stays below by chance alone (Yurdakul and Naranjo, 2020: it is distributed as chi-square times 1/n + 1/m).

    Half a row is added to each bin, so that an empty one has a logarithm.
    """
    a, b = np.array(old.counts, float), np.array(new.counts, float)
    a, b = a[(used := a + b > 0)], b[used]
    if len(a) < 2:
        return 0.0, 0.0
    p, q = (a + 0.5) / (a + 0.5).sum(), (b + 0.5) / (b + 0.5).sum()
    chance = chdtri(len(a) - 1, SIGNIFICANCE_LEVEL) * (1 / max(a.sum(), 1) + 1 / max(b.sum(), 1))
    return round(float(((q - p) * np.log(q / p)).sum()), 4), round(float(chance), 4)


def check_drift(
    table: pa.Table, now: Profile, before: Profile, rules: Any
) -> Iterator[dict[str, Any]]:
    """The results of the recipe's rules on drift, a `check.drift`, for the snapshot and the profile that it is compared with."""

    def result(
        name: str,
        arguments: dict[str, Any],
        moved: list[str],
        success: bool,
        observed: float | None = None,
    ) -> dict[str, Any]:
        about = {
            "expectation": name,
            "arguments": arguments,
            "severity": rules.severity,
            "success": success,
            "observed": observed,
        }
        return about | {
            "unexpected": len(moved) if observed is None else None,
            "examples": [] if success else moved[:MAX_EXAMPLES],
        }

    if rules.rows:
        ratio = round(now.rows / max(before.rows, 1), 4)
        bounds = {"min_value": rules.rows[0], "max_value": rules.rows[1]}
        yield result(
            "expect_row_count_ratio_to_be_between",
            bounds,
            [f"{before.rows} rows → {now.rows}"],
            rules.rows[0] <= ratio <= rules.rows[1],
            ratio,
        )
    if rules.columns:
        types = {
            name: (before.types.get(name, "none"), now.types.get(name, "none"))
            for name in sorted((before.types.keys() | now.types.keys()) - PIPELINE_COLUMNS)
        }
        moved = [f"{name}: {old} → {new}" for name, (old, new) in types.items() if old != new]
        yield result("expect_columns_and_types_to_stay", {}, moved, not moved)
    if rules.shares and before.classes and now.classes:
        parts = [
            {name: count / sum(side.classes.values()) for name, count in side.classes.items()}
            for side in (before, now)
        ]
        shares = {
            name: (parts[0].get(name, 0.0), parts[1].get(name, 0.0))
            for name in sorted(parts[0].keys() | parts[1].keys())
        }
        changes = sorted(shares.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
        moved = [
            f"{name}: {old:.1%} → {new:.1%}"
            for name, (old, new) in changes
            if abs(new - old) > rules.shares or not old or not new
        ]
        yield result(
            "expect_class_shares_to_change_by_at_most",
            {"max_value": rules.shares},
            moved,
            not moved,
        )
    for name in (
        sorted((before.bins.keys() & now.bins.keys()) - PIPELINE_COLUMNS - set(rules.ignore))
        if rules.psi
        else []
    ):
        column, bins = cast_to_text(table[name]), before.bins[name]
        new = fill_bins(column, bins)
        value, chance = compute_psi(bins, new)
        fine = value <= max(rules.psi, chance)
        arguments = {"column": name, "max_value": rules.psi}
        about = result(
            "expect_column_psi_to_be_at_most",
            arguments,
            [] if fine else describe_largest_shifts(bins, new, column),
            fine,
            value,
        )
        yield about | {"kind": bins.kind, "chance": chance}


def describe_largest_shifts(old: Bins, new: Bins, column: pa.ChunkedArray) -> list[str]:
    """The bins whose shares have moved most, in words."""
    p, q = (np.array(bins.counts) / max(sum(bins.counts), 1) for bins in (old, new))
    if old.kind == "category":
        known = {hash_value(value): repr(value[:40]) for value in count_values(column)}
        words = [known.get(name, "a value that is gone") for name in old.names]
    else:
        prefix, edges = (
            "length " if old.kind == "length" else "",
            [f"{edge:g}" for edge in old.edges],
        )
        ranges = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
        words = [
            prefix + word
            for word in ([f"up to {edges[0]}", *ranges, f"over {edges[-1]}"] if edges else ["any"])
        ]
    words += ["other values", "no value"]
    order = sorted(range(len(words)), key=lambda at: (-abs(q[at] - p[at]), at))
    return [f"{words[at]}: {p[at]:.1%} → {q[at]:.1%}" for at in order[:2]]
