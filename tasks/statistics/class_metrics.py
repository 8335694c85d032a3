"""Metrics of classes or labels, from counts of outcomes and from how well probabilities rank rows.

Rows are weighted, `[resamples, rows]`; counts are `[resamples, classes]`. A mean over classes is
over those that the rows have.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import numpy as np

from tasks.statistics.array_types import Flags, Floats


class Counts(NamedTuple):
    """How often each class occurs, each `[resamples, classes]`."""

    true_positives: Floats
    support: Floats  # rows that have the class
    predicted: Floats  # rows that were given the class

    @classmethod
    def zeros(cls, resamples: int, classes: int) -> "Counts":
        """Return counts of nothing."""
        shape = (resamples, classes)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(shape))


CountMetric = Callable[[Counts], Floats]


def divide_or_zero(part: Floats, whole: Floats) -> Floats:
    """Divide; 0 if there is nothing to be a part of."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def precision_score(counts: Counts) -> Floats:
    """Return the share of predicted rows that have the class."""
    return divide_or_zero(counts.true_positives, counts.predicted)


def recall_score(counts: Counts) -> Floats:
    """Return the share of rows with the class that were predicted."""
    return divide_or_zero(counts.true_positives, counts.support)


def f1_score(counts: Counts) -> Floats:
    """Return the harmonic mean of precision and recall."""
    return divide_or_zero(2 * counts.true_positives, counts.support + counts.predicted)


def accuracy_score(counts: Counts) -> Floats:
    """Return the share of right rows, `[resamples]`."""
    return np.asarray(counts.true_positives.sum(1) / counts.support.sum(1))


def weighted_f1_score(counts: Counts) -> Floats:
    """Return the mean of F1 over classes, weighted by their rows, `[resamples]`."""
    f1 = f1_score(counts)
    return divide_or_zero((counts.support * f1).sum(1), counts.support.sum(1))


def micro_f1_score(counts: Counts) -> Floats:
    """Return F1 of all classes' counts together, `[resamples]`."""
    return f1_score(Counts(*(part.sum(1) for part in counts)))


def macro_average(metric: CountMetric, counts: Counts) -> Floats:
    """Return the mean of a metric over the classes that have rows, `[resamples]`."""
    has_rows = counts.support > 0
    total = (metric(counts) * has_rows).sum(1)
    return np.asarray(total / np.maximum(has_rows.sum(1), 1))


def matthews_correlation(counts: Counts) -> Floats:
    """Return Matthews' correlation of several classes (Gorodkin 2004), `[resamples]`.

    0 if all rows have, or are given, one class.
    """
    rows = counts.support.sum(1)
    spread_of_targets = rows**2 - (counts.support**2).sum(1)
    spread_of_predictions = rows**2 - (counts.predicted**2).sum(1)
    covariance = rows * counts.true_positives.sum(1) - (counts.support * counts.predicted).sum(1)
    return divide_or_zero(covariance, np.sqrt(spread_of_targets * spread_of_predictions))


PER_CLASS_METRICS: dict[str, CountMetric] = {
    "precision": precision_score,
    "recall": recall_score,
    "f1": f1_score,
}
COUNT_METRICS: dict[str, CountMetric] = {
    "accuracy": accuracy_score,
    "macro_precision": partial(macro_average, precision_score),
    "macro_recall": partial(macro_average, recall_score),
    "macro_f1": partial(macro_average, f1_score),
    "balanced_accuracy": partial(macro_average, recall_score),
    "weighted_f1": weighted_f1_score,
    "micro_f1": micro_f1_score,
    "mcc": matthews_correlation,
}
RANKING_METRICS = ("roc_auc", "pr_auc", "mean_average_precision")


def count_outcomes(actual: Flags, predicted: Flags, weights: Floats) -> Counts:
    """Count outcomes in weighted rows.

    Args:
        actual: Which classes each row has, `[rows, classes]`.
        predicted: Which classes each row was given, `[rows, classes]`.
        weights: How often each row counts, `[resamples, rows]`.
    """
    return Counts(weights @ (actual & predicted), weights @ actual, weights @ predicted)


def compute_count_metrics(metrics: Collection[str], counts: Counts) -> dict[str, Floats]:
    """Compute the metrics that need counts alone, each `[resamples]`; leave out the others."""
    return {metric: COUNT_METRICS[metric](counts) for metric in metrics if metric in COUNT_METRICS}


def compute_ranking_metrics(
    metrics: Collection[str], actual: Flags, scores: Floats | None, weights: Floats
) -> dict[str, Floats]:
    """Compute the metrics that need probabilities, as means over classes; leave out the others.

    Args:
        metrics: Names of metrics.
        actual: Which classes each row has, `[rows, classes]`.
        scores: Each class's probability, `[rows, classes]`; None if they are not known.
        weights: How often each row counts, `[resamples, rows]`.

    Returns:
        Each metric as `[resamples]`; NaN if no class has a value.
    """
    if not set(metrics) & set(RANKING_METRICS):
        return {}
    areas = np.full((2, 1, len(weights)), np.nan)  # [2, classes, resamples]
    if scores is not None:
        by_class = [
            compute_curve_areas(actual[:, label], scores[:, label], weights)
            for label in range(actual.shape[1])
        ]
        areas = np.stack(by_class, 1)
    has_value = np.isfinite(areas)
    total = np.where(has_value, areas, 0).sum(1)  # [2, resamples]
    undefined = np.full(total.shape, np.nan)
    means = np.divide(total, has_value.sum(1), out=undefined, where=has_value.any(1))
    roc_auc, average_precision = means
    values = {}
    for metric in metrics:
        if metric in RANKING_METRICS:
            values[metric] = roc_auc if metric == "roc_auc" else average_precision
    return values


def compute_curve_areas(  # noqa: PLR0914  each intermediate has a name
    actual: Flags, scores: Floats, weights: Floats
) -> Floats:
    """Compute ROC-AUC and average precision of one class.

    ROC-AUC is the share of pairs in the right order, ties counting half (Hanley and McNeil 1982).
    Only probabilities of the class's own rows are thresholds that matter, so the rows between
    two thresholds are added up first.

    Args:
        actual: Which rows have the class, `[rows]`.
        scores: The class's probability, `[rows]`.
        weights: How often each row counts, `[resamples, rows]`.

    Returns:
        ROC-AUC and average precision, `[2, resamples]`; NaN if no row has the class.
    """
    order = np.argsort(-scores, kind="stable")
    keys = -scores[order]  # [rows], ascending
    is_positive = actual[order]  # [rows]
    if not is_positive.any():
        return np.full((2, len(weights)), np.nan)
    # Distinct keys of positive rows are the thresholds, [thresholds]; where each begins and ends.
    thresholds, first_positive = np.unique(keys[is_positive], return_index=True)
    begins = np.searchsorted(keys, thresholds)
    ends = np.searchsorted(keys, thresholds, side="right")
    # Segments are the rows of a threshold, or those between two thresholds, [segments].
    segment_starts = np.unique(np.concatenate([[0], begins, ends[ends < len(order)]]))
    segment_of_threshold = np.searchsorted(segment_starts, begins)  # [thresholds]
    ordered_weights = weights.T[order]  # [rows, resamples]
    segment_rows = np.add.reduceat(ordered_weights, segment_starts, axis=0)
    positives = np.add.reduceat(ordered_weights[is_positive], first_positive, axis=0)
    rows_so_far = segment_rows.cumsum(0)  # [segments, resamples]
    positives_so_far = positives.cumsum(0)  # [thresholds, resamples]
    rows_down_to = rows_so_far[segment_of_threshold]  # [thresholds, resamples]
    total_positives = positives_so_far[-1]  # [resamples]
    total_negatives = rows_so_far[-1] - total_positives  # [resamples]
    # Negatives ranked below each threshold, and half of those on it, [thresholds, resamples].
    ties = segment_rows[segment_of_threshold] - positives
    beaten = total_negatives - (rows_down_to - positives_so_far) + ties / 2
    precision = divide_or_zero(positives_so_far, rows_down_to)
    with np.errstate(invalid="ignore", divide="ignore"):
        roc_auc = (positives * beaten).sum(0) / (total_positives * total_negatives)
        average_precision = (positives * precision).sum(0) / total_positives
    return np.stack([roc_auc, average_precision])
