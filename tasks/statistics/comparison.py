"""Is a model better than another one on the same rows, or no worse? And if nothing is shown, how many rows would show it?

All tests are one-sided at `alpha`; a difference is the model's value minus the other's, turned so that positive is better.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, norm

from tasks.statistics.array_types import Floats

POWER = 0.8


def mcnemar_p_value(better: int, worse: int) -> float:
    """The exact p-value of McNemar's test (1947) that a model is no better, from the rows that it alone gets right and those that it alone gets wrong."""
    return float(binom.sf(better - 1, better + worse, 0.5))


def noninferiority_p_value(better: int, worse: int, rows: int, margin: float) -> float:
    """The p-value that a model is right on fewer of all rows by at least `margin`: the score test for paired shares (Tango 1998).

    Its spread is that of the hypothesis, so it is sound also where hardly any row tells the two models apart, of which the bootstrap is too sure.
    """
    linear = (2 * rows + better - worse) * margin - better - worse
    rare = (math.sqrt(max(0.0, linear**2 + 8 * rows * better * margin * (1 - margin))) - linear) / (
        4 * rows
    )  # P(only the model is right) under the hypothesis
    return float(
        norm.sf(
            (better - worse + rows * margin) / math.sqrt(rows * (2 * rare + margin - margin**2))
        )
    )


def bootstrap_p_value(value: float, differences: Floats, bound: float) -> float:
    """The p-value that a difference is at most `bound`, from its values in resamples: the share that is, or that of the normal distribution of their spread.

    Each alone is somewhat too small with a few hundred rows (Davison and Hinkley 1997, ch. 4 and 5), so the larger one counts. Where no resample is, the
    share is below what their number can tell, so the normal distribution alone counts, as wide as the lower tail of the resamples is.
    """
    beyond, spread = int((~(differences > bound)).sum()), float(differences.std())
    if not beyond:
        spread = max(
            spread,
            *(
                (value - np.quantile(differences, level)) / norm.isf(level)
                for level in (0.025, 0.005)
            ),
        )
    normal = float(norm.sf((value - bound) / spread)) if spread > 0 else 0.0
    return max((1 + beyond) / (1 + len(differences)), normal) if beyond else normal


def alpha_for_comparison(alpha: float, look: int) -> float:
    """What the look of this number may spend of the error rate: over however many looks, the sum stays below alpha (a union bound, so in any order and
    also where all use the same rows)."""
    return alpha / (look * (look + 1))


def holm_p_values(values: Sequence[float]) -> list[float]:
    """p-values that may each be held against alpha, however many there are (Holm 1979)."""
    order, adjusted = np.argsort(values), np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(np.sort(values) * np.arange(len(values), 0, -1)).clip(
        max=1
    )
    return list(adjusted.tolist())


def detectable_difference(error: float, alpha: float) -> float:
    """The smallest difference to the bound that is shown with a power of 80 %."""
    return float((norm.isf(alpha) + norm.ppf(POWER)) * error)


def rows_needed(rows: int, difference: float, error: float, alpha: float) -> int | None:
    """How many rows would show a difference to the bound of this size with a power of 80 %; None where none would, since it is not there."""
    return (
        math.ceil(rows * (detectable_difference(error, alpha) / difference) ** 2)
        if difference > 0
        else None
    )
