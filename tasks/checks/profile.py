"""The profile of a snapshot: counts by which later snapshots are compared, and no row.

Of a text only its length is counted; values of other columns are hashed; classes are named.
"""

import hashlib
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import chdtri

from tasks.contracts.base import Record
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns

# A category has at most so many values, each in so many rows on average.
MAX_CATEGORIES = 50
MIN_ROWS_PER_CATEGORY = 10
MAX_COUNTED_VALUES = 20  # values of a category that have a bin of their own
MAX_CLASSES = 1000  # more different labels than this are no classes
MIN_NUMERIC_FRACTION = 0.95  # of the texts of a column that is binned as numbers
NUMBER_PATTERN = r"^\s*[+-]?(\d{1,18}\.?\d*|\.\d+)([eE][+-]?\d{1,2})?\s*$"
HASH_DIGITS = 16
DECILES = np.arange(1, 10) / 10
SIGNIFICANCE_LEVEL = 0.001  # the chance of a larger index between samples of one distribution
PSI_DIGITS = 4

Kind = Literal["category", "number", "length"]
Role = Literal["class", "text", "other"]


class Bins(Record):
    """A column's values in bins.

    There is one bin for each value of a category (named by its hash), or one between each two
    `edges` of numbers or lengths. The last two of `counts` are those of other values and of none.
    """

    kind: Kind
    edges: list[float]
    names: list[str]
    counts: list[int]


class Profile(Record):
    """Counts of a snapshot."""

    rows: int
    types: dict[str, str]
    classes: dict[str, int]
    bins: dict[str, Bins]


def build_profile(table: pa.Table, modality: str, problem: str = "classification") -> Profile:
    """Count the rows, classes and values of a snapshot."""
    bins = {}
    for name in table.column_names:
        if name != "id":
            column = cast_to_text(table[name])
            empty_bins = choose_bins(column, column_role(name, modality, problem))
            bins[name] = fill_bins(column, empty_bins)
    return Profile(
        rows=table.num_rows,
        types={field.name: str(field.type) for field in table.schema},
        classes=count_classes(table) if problem == "classification" else {},
        bins=bins,
    )


def count_classes(table: pa.Table) -> dict[str, int]:
    """Count the rows of each class; nothing if there are too many for classes."""
    if "label" not in table.column_names:
        return {}
    counts = count_values(cast_to_text(table["label"]))
    return dict(sorted(counts.items())) if len(counts) <= MAX_CLASSES else {}


def cast_to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column's values as text; bytes stay."""
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return column
    return table_columns.convert_to_text(column)


def count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """Count how often each value occurs; null is not counted."""
    counts = column.drop_null().value_counts().to_pylist()
    return {item["values"]: item["counts"] for item in counts}


def column_role(name: str, modality: str, problem: str) -> Role:
    """Return what a column is to the model."""
    is_class = problem == "classification" and name == "label"
    is_text = name == "text" and CONTENT_COLUMN[modality] == "text"
    if is_class:
        return "class"
    if is_text:
        return "text"
    return "other"


def choose_bins(column: pa.ChunkedArray, role: Role) -> Bins:
    """Choose empty bins that suit a column: its most frequent values, or deciles."""
    values = column.drop_null()
    if role != "text" and pa.types.is_string(values.type):
        if is_category(values, role):
            return Bins(kind="category", edges=[], names=name_frequent_values(values), counts=[])
        numbers = parse_numbers(values)
        if len(numbers) >= MIN_NUMERIC_FRACTION * len(values):
            return Bins(kind="number", edges=compute_deciles(numbers), names=[], counts=[])
    lengths = measure_lengths(values)
    return Bins(kind="length", edges=compute_deciles(lengths), names=[], counts=[])


def is_category(values: pa.ChunkedArray, role: Role) -> bool:
    """Tell whether values are few enough for a bin each."""
    n_distinct = pc.count_distinct(values).as_py()
    if role == "class":
        return bool(n_distinct <= MAX_CLASSES)
    return bool(n_distinct <= min(MAX_CATEGORIES, len(values) / MIN_ROWS_PER_CATEGORY))


def name_frequent_values(values: pa.ChunkedArray) -> list[str]:
    """Hash the most frequent values."""
    counts = count_values(values)
    by_frequency = sorted(counts, key=lambda value: (-counts[value], value))
    return [hash_value(value) for value in by_frequency[:MAX_COUNTED_VALUES]]


def hash_value(value: str | bytes) -> str:
    """Hash a value, so that a profile does not show it."""
    data = value if isinstance(value, bytes) else value.encode()
    return hashlib.sha256(data).hexdigest()[:HASH_DIGITS]


def measure_lengths(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Measure the lengths in characters, or in bytes if the values are bytes."""
    length = pc.utf8_length if pa.types.is_string(values.type) else pc.binary_length
    lengths: NDArray[np.float64] = length(values).cast(pa.float64()).to_numpy()
    return lengths


def parse_numbers(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Parse those of the texts that are numbers."""
    if not pa.types.is_string(values.type):
        return np.empty(0)
    numeric = values.filter(pc.match_substring_regex(values, NUMBER_PATTERN))
    numbers: NDArray[np.float64] = pc.utf8_trim_whitespace(numeric).cast(pa.float64()).to_numpy()
    return numbers


def compute_deciles(values: NDArray[np.float64]) -> list[float]:
    """Compute the distinct deciles."""
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, DECILES, method="inverted_cdf"))
    return [float(edge) for edge in edges]


def fill_bins(column: pa.ChunkedArray, bins: Bins) -> Bins:
    """Count a column's values in given bins."""
    values = column.drop_null()
    counts = (
        count_categories(values, bins) if bins.kind == "category" else count_ranges(values, bins)
    )
    n_other = len(values) - sum(counts)
    n_missing = len(column) - len(values)
    return bins.model_copy(update={"counts": [*counts, n_other, n_missing]})


def count_categories(values: pa.ChunkedArray, bins: Bins) -> list[int]:
    """Count the values that have a bin of their own."""
    by_name = {hash_value(value): count for value, count in count_values(values).items()}
    return [by_name.get(name, 0) for name in bins.names]


def count_ranges(values: pa.ChunkedArray, bins: Bins) -> list[int]:
    """Count the numbers or lengths between the edges."""
    numbers = parse_numbers(values) if bins.kind == "number" else measure_lengths(values)
    bin_of_value = np.searchsorted(bins.edges, numbers)  # [values]
    counts: list[int] = np.bincount(bin_of_value, minlength=len(bins.edges) + 1).tolist()
    return counts


def compute_psi(reference: Bins, current: Bins) -> tuple[float, float]:
    """Compute the population stability index of two samples in the same bins.

    Half a row is added to each bin, so an empty one has a logarithm.

    Returns:
        The index (Siddiqi, Credit Risk Scorecards, 2006), and the value below which it stays by
        chance: it is distributed as chi-square times 1/n + 1/m (Yurdakul and Naranjo, 2020).
    """
    reference_counts = np.array(reference.counts, float)  # [bins]
    current_counts = np.array(current.counts, float)  # [bins]
    is_used = reference_counts + current_counts > 0
    reference_counts = reference_counts[is_used]
    current_counts = current_counts[is_used]
    n_bins = len(reference_counts)
    if n_bins < 2:
        return 0.0, 0.0
    p = (reference_counts + 0.5) / (reference_counts + 0.5).sum()
    q = (current_counts + 0.5) / (current_counts + 0.5).sum()
    index = ((q - p) * np.log(q / p)).sum()
    quantile = chdtri(n_bins - 1, SIGNIFICANCE_LEVEL)
    chance = quantile * (1 / max(reference_counts.sum(), 1) + 1 / max(current_counts.sum(), 1))
    return round(float(index), PSI_DIGITS), round(float(chance), PSI_DIGITS)
