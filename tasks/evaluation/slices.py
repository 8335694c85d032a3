"""Slices: how good the model is on parts of the test split.

The parts are those of the recipe's columns, the length of texts, and the parts that a shallow tree
finds to be worst.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks import modalities
from tasks.contracts.base import JsonObject
from tasks.contracts.model_info import Column, NumberColumn
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.modalities import tabular
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.evaluate import Slice
from tasks.rows import label_values, table_columns
from tasks.statistics import bootstrap
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import DIGITS

LENGTH_COLUMN = "length"  # of a text, unless the data have a column of that name
MISSING_VALUE = "(missing)"
OTHER_VALUES = "(others)"
MAX_VALUES = 50  # of a column, the most frequent ones; the others are one slice
QUARTILES = (0.25, 0.5, 0.75)
MAX_TREE_DEPTH = 3
MAX_WORST_SLICES = 3
RowMask = NDArray[np.bool_]


class RowSlice(NamedTuple):
    """A part of the test split.

    Attributes:
        name: The value or range that its rows share.
        range: From what to what its numbers are, if that is not its name.
        rows: Which rows are in it, shape [rows].
    """

    name: str
    range: str
    rows: RowMask


def measure(context: EvaluationContext) -> AspectResult:
    """Measure the metrics of each slice, and find the worst slices."""
    metrics: JsonObject = {}
    for config in list_slices(context):
        metrics[config.column] = {
            part.name: score_slice(context, part)
            for part in iter_slices(context, config, "evaluate.slices")
        }
    errors = context.problem.row_errors(context.targets, context.predictions)
    metrics["worst"] = find_worst_slices(context, errors)
    return AspectResult(metrics, {"error": float(errors.mean())})


def list_slices(context: EvaluationContext) -> list[Slice]:
    """Return the recipe's slices and, for texts, their length."""
    slices = list(context.config.slices)
    columns = {item.column for item in slices}
    if is_text(context) and LENGTH_COLUMN not in columns:
        slices.append(Slice(column=LENGTH_COLUMN))
    return slices


def is_text(context: EvaluationContext) -> bool:
    """Return whether a row's content is a text."""
    return CONTENT_COLUMN[context.recipe.modality] == "text"


def score_slice(context: EvaluationContext, part: RowSlice) -> JsonObject:
    """Return the main metrics of a slice, if it has rows enough.

    How many rows of a slice are of which class is chance, so its resamples are not stratified.
    """
    problem = context.problem
    n_rows = int(part.rows.sum())
    scores: JsonObject = {"rows": n_rows}
    if part.range:
        scores["range"] = part.range
    if n_rows < context.config.support:
        return scores
    names = dict.fromkeys(["accuracy", str(context.info.train["metric"]), "log_loss", "mae"])
    metrics = [name for name in names if name in problem.metrics]
    targets = context.targets[part.rows]
    predictions = problem.take(context.predictions, part.rows)
    resamples = bootstrap.draw_weights(n_rows, context.config)
    samples = bootstrap.join_metrics(
        metrics,
        (
            [problem.compute_metrics(metrics, targets, predictions, weights)]
            for weights in resamples
        ),
    )
    return scores | problem.metric_intervals(targets, predictions, context.config, metrics, samples)


def select_cells(context: EvaluationContext, column: str, key: str) -> list[Any]:
    """Return a column's cells; the length of texts is a column too.

    Args:
        context: What is evaluated.
        column: The column's name.
        key: The recipe's key that names it, for the error if it does not exist.
    """
    if is_text_length(context, column):
        texts = context.test["text"].to_pylist()
        return list(map(len, texts))
    rows = modalities.select_cells(context.test, [column], key)
    return [row[column] for row in rows]


def is_text_length(context: EvaluationContext, column: str) -> bool:
    """Return whether the column stands for the length of texts."""
    return column == LENGTH_COLUMN and column not in context.test.column_names and is_text(context)


def iter_slices(context: EvaluationContext, config: Slice, key: str) -> Iterator[RowSlice]:
    """Yield the slices of a column: ranges of its numbers, or its values."""
    cells = select_cells(context, config.column, key)
    if config.edges or (not config.values and has_many_numbers(config.column, cells)):
        yield from iter_ranges(config, cells)
    else:
        yield from iter_values(config, cells)


def has_many_numbers(column: str, cells: Sequence[Any]) -> bool:
    """Return whether a column holds numbers, and more different ones than codes would be."""
    inferred = tabular.infer_column(column, cells)
    if not isinstance(inferred, NumberColumn):
        return False
    numbers = parse_numbers(cells)
    n_distinct = len(set(numbers[np.isfinite(numbers)].tolist()))
    return n_distinct > tabular.MAX_DISTINCT_CODES


def parse_numbers(cells: Sequence[Any]) -> Floats:
    """Return the cells as numbers, NaN where there is none."""
    return np.array([tabular.parse_number(cell) for cell in cells])


def iter_ranges(config: Slice, cells: Sequence[Any]) -> Iterator[RowSlice]:
    """Yield the ranges between the recipe's edges, or the quarters of the rows."""
    numbers = parse_numbers(cells)
    is_number = np.isfinite(numbers)
    edges = sorted(config.edges or [])
    names, range_of_row = label_values.split_into_ranges(
        edges or np.unique(np.quantile(numbers[is_number], QUARTILES)), numbers
    )
    for position, name in enumerate(names):
        rows = is_number & (range_of_row == position)
        if config.edges:
            yield RowSlice(name, "", rows)
        else:
            yield RowSlice(f"quarter {position + 1}", describe_range(cells, numbers, rows), rows)
    if not is_number.all() and not config.values:
        yield RowSlice(MISSING_VALUE, "", ~is_number)


def describe_range(cells: Sequence[Any], numbers: Floats, rows: RowMask) -> str:
    """Return the smallest and the largest cell of some rows, as they are written."""
    if not rows.any():
        return "none"
    positions = np.flatnonzero(rows)
    ordered = positions[np.argsort(numbers[rows], kind="stable")]
    return f"{cells[ordered[0]]} to {cells[ordered[-1]]}"


def iter_values(config: Slice, cells: Sequence[Any]) -> Iterator[RowSlice]:
    """Yield the recipe's values, or the most frequent ones, the others and the missing."""
    names = np.array([tabular.category_name(cell) or MISSING_VALUE for cell in cells], object)
    is_known = names != MISSING_VALUE
    if config.values:
        for value in config.values:
            name = str(tabular.category_name(value))
            yield RowSlice(name, "", names == name)
        return
    counts = Counter(names[is_known].tolist())
    by_frequency = sorted(sorted(counts), key=lambda name: -counts[name])
    common = by_frequency[:MAX_VALUES]
    for name in sorted(common):
        yield RowSlice(name, "", names == name)
    if len(counts) > len(common):
        yield RowSlice(OTHER_VALUES, "", is_known & ~np.isin(names, common))
    if not is_known.all():
        yield RowSlice(MISSING_VALUE, "", ~is_known)


def find_worst_slices(context: EvaluationContext, errors: Floats) -> list[JsonObject]:
    """Return the leaves of a shallow tree on the errors that are much worse than all rows.

    That is by more than two standard errors. Their conditions name columns.
    """
    from sklearn.tree import DecisionTreeRegressor

    support = context.config.support
    cells = tree_cells(context)
    inferred = [tabular.infer_column(name, cells[name]) for name in cells]
    columns = [column for column in inferred if column]
    if not columns or len(errors) < 2 * support:
        return []
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    regressor = DecisionTreeRegressor(
        max_depth=MAX_TREE_DEPTH, min_samples_leaf=support, random_state=0
    )
    tree = regressor.fit(tabular.encode_features(columns, rows), errors).tree_
    cuts = list(chain.from_iterable(describe_cuts(column) for column in columns))
    leaves = list(iter_leaves(tree, cuts, 0, {}))
    bad = [leaf for leaf in leaves if leaf.error > worst_by_chance(errors, leaf.n_rows)]
    bad.sort(key=lambda leaf: (-leaf.error, leaf.condition, leaf.n_rows))
    return [
        {"condition": leaf.condition, "rows": leaf.n_rows, "error": round(leaf.error, DIGITS)}
        for leaf in bad[:MAX_WORST_SLICES]
    ]


def worst_by_chance(errors: Floats, n_rows: int) -> float:
    """Return the error that so many random rows exceed only rarely (two standard errors)."""
    return float(errors.mean() + 2 * errors.std() / np.sqrt(n_rows))


def tree_cells(context: EvaluationContext) -> dict[str, list[Any]]:
    """Return the columns that the tree may cut: the label, the features, the length of texts."""
    content = CONTENT_COLUMN[context.recipe.modality]
    excluded = {*table_columns.ROLE_COLUMNS, content} - {"label"}
    names = [name for name in context.test.column_names if name not in excluded]
    if is_text_length(context, LENGTH_COLUMN):
        names.append(LENGTH_COLUMN)
    return {name: select_cells(context, name, "") for name in names}


@dataclass(frozen=True)
class Cut:
    """How a cut of a feature reads on each side.

    Attributes:
        low: The condition below the cut, such as `age up to` or `team is not A`.
        high: The condition above it.
        std: The unit of a number's feature; 0 for a category.
        mean: The origin of a number's feature.
    """

    low: str
    high: str
    std: float = 0.0
    mean: float = 0.0


class Leaf(NamedTuple):
    """A leaf of the tree: its mean error, its condition, and how many rows it has."""

    error: float
    condition: str
    n_rows: int


def describe_cuts(column: Column) -> list[Cut]:
    """Return a cut for each feature that a column becomes."""
    name = column.name
    cuts = []
    values: list[str | None] = []
    if isinstance(column, NumberColumn):
        cuts.append(Cut(f"{name} up to", f"{name} over", column.std, column.mean))
        values = [None] if column.has_missing else []
    else:
        values = column.values
    for value in values:
        shown = MISSING_VALUE if value is None else value
        cuts.append(Cut(f"{name} is not {shown}", f"{name} is {shown}"))
    return cuts


def iter_leaves(
    tree: Any, cuts: list[Cut], node: int, conditions: dict[str, str]
) -> Iterator[Leaf]:
    """Yield each leaf below a node. Of two bounds on a number the nearer one counts."""
    if tree.children_left[node] < 0:
        condition = " and ".join(f"{side}{bound}" for side, bound in conditions.items())
        yield Leaf(float(tree.value[node].item()), condition, int(tree.n_node_samples[node]))
        return
    cut = cuts[tree.feature[node]]
    bound = f" {tree.threshold[node] * cut.std + cut.mean:.4g}" if cut.std else ""
    for child, side in ((tree.children_left[node], cut.low), (tree.children_right[node], cut.high)):
        yield from iter_leaves(tree, cuts, child, conditions | {side: bound})
