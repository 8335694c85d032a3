"""Fairness: how far apart the groups of a sensitive column are, by fairlearn's measures.

The rates compared are accuracy, how often a class is predicted at all (selection rate), where it
is true (true-positive rate, tpr) and where it is not (false-positive rate, fpr).

Of two classes, the second in alphabetical order is the positive one, as in scikit-learn. Of more,
and of labels, each is held against the rest, and the gap is the largest of any. A group with fewer
rows than `evaluate.support` for a rate counts in no gap of that rate.

fairlearn's MetricFrame offers the rates and their bootstrap; here all rates of all groups are two
matrix products per chunk of resamples, which are the same as for every other metric.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.base import JsonObject
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.slices import iter_slices
from tasks.recipe.evaluate import Slice
from tasks.statistics import intervals
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import DIGITS

CLASS_RATES = ("selection_rate", "tpr", "fpr")


class Outcomes(NamedTuple):
    """How the model answered each row.

    Attributes:
        quality: The name of `by_row`: accuracy or error.
        by_row: How right or wrong each answer is, shape [rows].
        is_true: Which classes each row has, shape [rows, classes].
        is_predicted: Which classes it was given, shape [rows, classes].
        labels: The classes.
    """

    quality: str
    by_row: Floats
    is_true: NDArray[np.bool_]
    is_predicted: NDArray[np.bool_]
    labels: list[str]


class GroupComparison(NamedTuple):
    """The gaps between groups, the rates of each group, and the class that each rate is of."""

    metrics: JsonObject
    class_of_rate: dict[str, str]


def measure(context: EvaluationContext) -> AspectResult | None:
    """Compare the groups of each sensitive column; None if the recipe names none."""
    columns = context.config.sensitive
    if not columns:
        return None
    comparisons = {column: compare_groups(context, column) for column in columns}
    return AspectResult(
        {column: comparison.metrics for column, comparison in comparisons.items()},
        {column: comparison.class_of_rate for column, comparison in comparisons.items()},
    )


class GroupRates:
    """The rates of each group as functions of how often each row counts."""

    def __init__(self, outcomes: Outcomes, groups: dict[str, NDArray[np.bool_]], support: int):
        """Prepare the numerators and denominators of all rates, each [rows, rates].

        Args:
            outcomes: How the model answered each row.
            groups: Which rows are in each group.
            support: The smallest denominator that gives a rate.
        """
        is_true = outcomes.is_true
        is_predicted = outcomes.is_predicted
        every_row = np.ones_like(outcomes.by_row)
        every_class = np.ones_like(is_predicted)
        self.names = [outcomes.quality]
        for rate in CLASS_RATES:
            self.names += [rate] * len(outcomes.labels)
        self.numerators = np.column_stack(
            [outcomes.by_row, is_predicted, is_predicted & is_true, is_predicted & ~is_true]
        )
        self.denominators = np.column_stack([every_row, every_class, is_true, ~is_true])
        self.groups = groups
        counts = [self.denominators[rows].sum(0) for rows in groups.values()]
        self.is_supported = np.stack(counts) >= support  # [groups, rates]

    def compute(self, weights: Floats) -> Floats:
        """Return the rates of weighted rows; from [resamples, rows] to [groups, resamples, rates].

        A rate with too few rows is NaN.
        """
        with np.errstate(invalid="ignore"):
            rates = np.stack(
                [
                    (weights[:, rows] @ self.numerators[rows])
                    / (weights[:, rows] @ self.denominators[rows])
                    for rows in self.groups.values()
                ]
            )
        return np.where(self.is_supported[:, None], rates, np.nan)

    def positions(self, name: str) -> list[int]:
        """Return where the rates of this name stand, one for each class."""
        return [position for position, other in enumerate(self.names) if other == name]


def compare_groups(context: EvaluationContext, column: str) -> GroupComparison:
    """Return the gaps between the groups of a column, and the rates of each group."""
    groups = {
        item.name: item.rows
        for item in iter_slices(context, Slice(column=column), "evaluate.sensitive")
        if item.rows.any()
    }
    outcomes = collect_outcomes(context)
    rates = GroupRates(outcomes, groups, context.config.support)
    resamples = context.problem.bootstrap_weights(context.targets, context.config)
    gap_samples = np.concatenate([compute_gaps(rates.compute(weights)) for weights in resamples])
    point_rates = rates.compute(np.ones((1, len(outcomes.by_row))))  # [groups, 1, rates]
    by_group: dict[str, JsonObject] = {
        name: {"rows": int(rows.sum())} for name, rows in groups.items()
    }
    metrics: JsonObject = {}
    class_of_rate: dict[str, str] = {}
    for name, widest in find_widest_gaps(rates, point_rates).items():
        positions = rates.positions(name)
        largest_samples = np.fmax.reduce(gap_samples[:, positions], axis=1)
        gap = float(compute_gaps(point_rates)[0, widest])
        metrics[f"{name}_gap"] = intervals.bias_corrected_interval(
            gap, largest_samples, context.config
        )
        class_of_rate[name] = outcomes.labels[widest - positions[0]] if widest else ""
        add_group_rates(by_group, name, point_rates[:, 0, widest])
    return GroupComparison({**metrics, "groups": by_group}, class_of_rate)


def find_widest_gaps(rates: GroupRates, point_rates: Floats) -> dict[str, int]:
    """Return for each rate the position of the class whose gap is largest.

    A rate is left out if no two groups have rows enough for any class.
    """
    gaps = compute_gaps(point_rates)[0]  # [rates]
    widest = {}
    for name in dict.fromkeys(rates.names):
        known = [position for position in rates.positions(name) if np.isfinite(gaps[position])]
        if known:
            widest[name] = max(known, key=lambda position: float(gaps[position]))
    return widest


def add_group_rates(by_group: dict[str, JsonObject], name: str, rates: Floats) -> None:
    """Add a rate to each group that has it; rates in the order of the groups, shape [groups]."""
    for group, rate in zip(by_group.values(), rates, strict=True):
        if np.isfinite(rate):
            group[name] = round(float(rate), DIGITS)


def collect_outcomes(context: EvaluationContext) -> Outcomes:
    """Return how the model answered each row."""
    problem = context.problem
    errors = problem.row_errors(context.targets, context.predictions)
    has_right_answers = problem.is_correct(context.targets, context.predictions) is not None
    no_classes = np.zeros((len(errors), 0), bool)
    flags = problem.class_flags(context.targets, context.predictions)
    is_true, is_predicted = flags or (no_classes, no_classes)
    is_binary = problem.NAME == "classification" and len(problem.labels) == 2
    first = 1 if is_binary else 0  # of two classes the second is the positive one
    labels = problem.labels[first:] if is_true.size else []
    classes = slice(first, first + len(labels))
    return Outcomes(
        quality="accuracy" if has_right_answers else "error",
        by_row=1 - errors if has_right_answers else errors,
        is_true=is_true[:, classes],
        is_predicted=is_predicted[:, classes],
        labels=labels,
    )


def compute_gaps(rates: Floats) -> Floats:
    """Return the largest less the smallest rate of any group.

    From [groups, resamples, rates] to [resamples, rates]; NaN if fewer than two groups have it.
    """
    gaps: Floats = np.fmax.reduce(rates) - np.fmin.reduce(rates)
    n_groups = np.isfinite(rates).sum(0)
    return np.where(n_groups < 2, np.nan, gaps)
