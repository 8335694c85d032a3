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


def ratio(part: Floats, whole: Floats) -> Floats:
    """0 where there is nothing to be a part of."""
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def f1(hits: Floats, there: Floats, given: Floats) -> Floats:
    return ratio(2 * hits, there + given)


def macro(of: Callable[..., Floats], hits: Floats, there: Floats, given: Floats) -> Floats:
    return np.asarray(
        (of(hits, there, given) * (there > 0)).sum(1) / np.maximum((there > 0).sum(1), 1)
    )


def correlation(hits: Floats, there: Floats, given: Floats) -> Floats:
    """Matthews' correlation coefficient of several classes (Gorodkin 2004); 0 where all rows have or are given one class."""
    rows = there.sum(1)
    spread = [rows**2 - (part**2).sum(1) for part in (there, given)]
    return ratio(rows * hits.sum(1) - (there * given).sum(1), np.sqrt(spread[0] * spread[1]))


BY_CLASS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "precision": lambda hits, there, given: ratio(hits, given),
    "recall": lambda hits, there, given: ratio(hits, there),
    "f1": f1,
}
COUNTED: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "accuracy": lambda hits, there, given: hits.sum(1) / there.sum(1),
    **{f"macro_{name}": partial(macro, of) for name, of in BY_CLASS.items()},
    "balanced_accuracy": partial(macro, BY_CLASS["recall"]),
    "weighted_f1": lambda hits, there, given: ratio(
        (there * f1(hits, there, given)).sum(1), there.sum(1)
    ),
    "micro_f1": lambda hits, there, given: f1(hits.sum(1), there.sum(1), given.sum(1)),
    "mcc": correlation,
}
RANKED = ("roc_auc", "pr_auc", "mean_average_precision")


def counts(there: Flags, given: Flags, weights: Floats) -> Counts:
    return weights @ (there & given), weights @ there, weights @ given


def counted(metrics: Collection[str], found: Counts) -> dict[str, Floats]:
    """Those of the metrics that counts alone give, each of shape (resamples,)."""
    return {metric: COUNTED[metric](*found) for metric in metrics if metric in COUNTED}


def ranked(
    metrics: Collection[str], there: Flags, said: Floats | None, weights: Floats
) -> dict[str, Floats]:
    """Those of the metrics for which each class's probability `said` is needed; NaN where no class has a value, or nothing was said."""
    if not set(metrics) & set(RANKED):
        return {}
    nothing = np.full((2, 1, len(weights)), np.nan)
    each = (
        nothing
        if said is None
        else np.stack(
            [curves(there[:, label], said[:, label], weights) for label in range(there.shape[1])], 1
        )
    )
    known = np.isfinite(each)
    means = np.divide(
        np.where(known, each, 0).sum(1), known.sum(1), out=nothing[:, 0], where=known.any(1)
    )
    return {
        metric: means[0 if metric == "roc_auc" else 1] for metric in metrics if metric in RANKED
    }


def curves(there: NDArray[np.bool_], said: Floats, weights: Floats) -> Floats:
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
                (hits * ratio(right, upto[at])).sum(0) / right[-1],
            ]
        )
