"""Measures: metrics of classes or labels, from how often each was right, there and given, and from how well its probability ranks the rows.

Rows are weighted, shape (resamples, rows), and counts have the shape (resamples, classes). A mean over classes is over those that the rows have.
"""

from collections.abc import Callable, Collection
from functools import partial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]  # of shape (rows, classes)
Counts = tuple[
    Floats, Floats, Floats
]  # how often each class is there and given, is there, and is given


def divide_or_zero(part: Floats, whole: Floats) -> Floats:
    """0 where there is nothing to be a part of."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def f1_score(hits: Floats, there: Floats, given: Floats) -> Floats:
    return divide_or_zero(2 * hits, there + given)


def macro_average(of: Callable[..., Floats], hits: Floats, there: Floats, given: Floats) -> Floats:
    return np.asarray(
        (of(hits, there, given) * (there > 0)).sum(1) / np.maximum((there > 0).sum(1), 1)
    )


def matthews_correlation(hits: Floats, there: Floats, given: Floats) -> Floats:
    """Matthews' correlation coefficient of several classes (Gorodkin 2004); 0 where all rows have or are given one class."""
    rows = there.sum(1)
    spread = [rows**2 - (part**2).sum(1) for part in (there, given)]
    return divide_or_zero(
        rows * hits.sum(1) - (there * given).sum(1), np.sqrt(spread[0] * spread[1])
    )


PER_CLASS_METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "precision": lambda hits, there, given: divide_or_zero(hits, given),
    "recall": lambda hits, there, given: divide_or_zero(hits, there),
    "f1": f1_score,
}
COUNT_METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": lambda hits, there, given: hits.sum(1) / there.sum(1),
    **{f"macro_{name}": partial(macro_average, of) for name, of in PER_CLASS_METRICS.items()},
    "balanced_accuracy": partial(macro_average, PER_CLASS_METRICS["recall"]),
    "weighted_f1": lambda hits, there, given: divide_or_zero(
        (there * f1_score(hits, there, given)).sum(1), there.sum(1)
    ),
    "micro_f1": lambda hits, there, given: f1_score(hits.sum(1), there.sum(1), given.sum(1)),
    "mcc": matthews_correlation,
}
RANKING_METRICS = ("roc_auc", "pr_auc", "mean_average_precision")


def count_outcomes(there: Flags, given: Flags, weights: Floats) -> Counts:
    return weights @ (there & given), weights @ there, weights @ given


def compute_count_metrics(metrics: Collection[str], found: Counts) -> dict[str, Floats]:
    """Those of the metrics that counts alone give, each of shape (resamples,)."""
    return {metric: COUNT_METRICS[metric](*found) for metric in metrics if metric in COUNT_METRICS}


def compute_ranking_metrics(
    metrics: Collection[str], there: Flags, said: Floats | None, weights: Floats
) -> dict[str, Floats]:
    """Those of the metrics for which each class's probability `said` is needed; NaN where no class has a value, or nothing was said."""
    if not set(metrics) & set(RANKING_METRICS):
        return {}
    nothing = np.full((2, 1, len(weights)), np.nan)
    each = (
        nothing
        if said is None
        else np.stack(
            [
                compute_curve_areas(there[:, label], said[:, label], weights)
                for label in range(there.shape[1])
            ],
            1,
        )
    )
    known = np.isfinite(each)
    means = np.divide(
        np.where(known, each, 0).sum(1), known.sum(1), out=nothing[:, 0], where=known.any(1)
    )
    return {
        metric: means[0 if metric == "roc_auc" else 1]
        for metric in metrics
        if metric in RANKING_METRICS
    }


def compute_curve_areas(there: NDArray[np.bool_], said: Floats, weights: Floats) -> Floats:
    """ROC-AUC (Hanley and McNeil 1982: the share of pairs in the right order, equal ones half) and average precision of one class, shape (2, resamples).

    Only the probabilities of the class's own rows are thresholds that matter, so the rows between two of them are added up first.
    """
    order = np.argsort(-said, kind="stable")
    scores, own = -said[order], there[order]
    if not own.any():
        return np.full((2, len(weights)), np.nan)
    levels, firsts = np.unique(scores[own], return_index=True)
    begins, ends = np.searchsorted(scores, levels), np.searchsorted(scores, levels, side="right")
    starts = np.unique(np.concatenate([[0], begins, ends[ends < len(order)]]))
    at = np.searchsorted(starts, begins)
    drawn = weights.T[order]
    parts, hits = (
        np.add.reduceat(drawn, starts, axis=0),
        np.add.reduceat(drawn[own], firsts, axis=0),
    )
    upto, right = parts.cumsum(0), hits.cumsum(0)
    others = upto[-1] - right[-1]
    beaten = (
        others - (upto[at] - right) + (parts[at] - hits) / 2
    )  # the others' rows below each level, and half of those on it
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [
                (hits * beaten).sum(0) / (right[-1] * others),
                (hits * divide_or_zero(right, upto[at])).sum(0) / right[-1],
            ]
        )
