"""Tests that a model is better than another on the same rows, or no worse, and their power.

All tests are one-sided at `alpha`. A difference is the model's value minus the other's, turned so
that positive is better.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, norm

from tasks.statistics.array_types import Floats

POWER = 0.8
TAIL_LEVELS = (0.025, 0.005)  # of the resamples, at which their lower tail is measured


def mcnemar_p_value(better: int, worse: int) -> float:
    """Return the p-value of McNemar's exact test (1947) that a model is no better.

    Args:
        better: Rows that only the model gets right.
        worse: Rows that only the other one gets right.
    """
    return float(binom.sf(better - 1, better + worse, 0.5))


def noninferiority_p_value(better: int, worse: int, rows: int, margin: float) -> float:
    """Return the p-value that a model is right on fewer rows by at least a margin.

    This is the score test for paired shares (Tango 1998). Its spread is that of the hypothesis,
    so it is sound if hardly any row tells the two models apart, unlike the bootstrap.

    Args:
        better: Rows that only the model gets right.
        worse: Rows that only the other one gets right.
        rows: All rows.
        margin: A share of all rows.
    """
    linear = (2 * rows + better - worse) * margin - better - worse
    discriminant = linear**2 + 8 * rows * better * margin * (1 - margin)
    # The probability that only the model is right, under the hypothesis.
    only_model_right = (math.sqrt(max(0.0, discriminant)) - linear) / (4 * rows)
    spread = math.sqrt(rows * (2 * only_model_right + margin - margin**2))
    return float(norm.sf((better - worse + rows * margin) / spread))


def bootstrap_p_value(value: float, differences: Floats, bound: float) -> float:
    """Return the p-value that a difference is at most a bound.

    It is the share of resamples that are, or that of a normal distribution with their spread:
    each alone is somewhat too small with a few hundred rows (Davison and Hinkley 1997, ch. 4 and
    5), so the larger one counts. If no resample is, the share is below what their number can
    tell, so the normal distribution alone counts, as wide as the resamples' lower tail.

    Args:
        value: The difference on all rows.
        differences: The difference in each resample, `[resamples]`.
        bound: What the difference has to exceed.
    """
    at_most_bound = int((~(differences > bound)).sum())
    spread = float(differences.std())
    if at_most_bound == 0:
        for level in TAIL_LEVELS:
            tail_spread = (value - np.quantile(differences, level)) / norm.isf(level)
            spread = max(spread, tail_spread)
    normal = float(norm.sf((value - bound) / spread)) if spread > 0 else 0.0
    if at_most_bound == 0:
        return normal
    return max((1 + at_most_bound) / (1 + len(differences)), normal)


def alpha_for_comparison(alpha: float, comparison_number: int) -> float:
    """Return what a comparison may spend of the error rate.

    Over however many comparisons, the sum stays below alpha. This is a union bound, so it holds
    in any order, and also if all comparisons use the same rows.
    """
    return alpha / (comparison_number * (comparison_number + 1))


def holm_p_values(values: Sequence[float]) -> list[float]:
    """Adjust p-values so that each may be held against alpha, however many (Holm 1979)."""
    order = np.argsort(values)
    hypotheses_left = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(np.sort(values) * hypotheses_left).clip(max=1)
    return list(adjusted.tolist())


def detectable_difference(error: float, alpha: float) -> float:
    """Return the smallest difference to a bound that is shown with a power of 80 %."""
    return float((norm.isf(alpha) + norm.ppf(POWER)) * error)


def rows_needed(rows: int, difference: float, error: float, alpha: float) -> int | None:
    """Return how many rows would show a difference to a bound with a power of 80 %.

    Args:
        rows: The rows that were compared.
        difference: The difference to the bound; None is returned unless it is positive.
        error: Its standard error on these rows.
        alpha: The error rate.
    """
    if not difference > 0:
        return None
    return math.ceil(rows * (detectable_difference(error, alpha) / difference) ** 2)
