"""Is a model better than another one on the same rows, or no worse? And if nothing is shown, how many rows would show it?

All tests are one-sided at `alpha`; a difference is the model's value minus the other's, turned so that positive is better.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, norm

from tasks.problems import Floats

POWER = 0.8


def mcnemar(better: int, worse: int) -> float:
    """The exact p-value of McNemar's test (1947) that a model is no better, from the rows that it alone gets right and those that it alone gets wrong."""
    return float(binom.sf(better - 1, better + worse, 0.5))


def bootstrapped(differences: Floats, bound: float) -> float:
    """The p-value that a difference is at most `bound`, from its values in resamples: the share that is (Davison and Hinkley 1997, ch. 4)."""
    return float((1 + (differences <= bound).sum()) / (1 + len(differences)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values that may each be held against alpha, however many there are (Holm 1979)."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable").tolist()):
        highest = max(highest, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = highest
    return adjusted


def spent(alpha: float, look: int) -> float:
    """The alpha of one look among any number: 1/2, 1/6, 1/12, … of it, which sum to 1 (Darling and Robbins 1967).

    The intervals at these levels are a confidence sequence: all looks together, at whatever pairs of models and whenever one stops, are wrong at most alpha
    of the time.
    """
    return alpha / (look * (look + 1))


def power(difference: float, error: float, alpha: float) -> float:
    """How often a true difference to the bound would be shown, when the estimate has this standard error."""
    return float(norm.cdf(difference / error - norm.isf(alpha)))


def detectable(error: float, alpha: float) -> float:
    """The smallest difference to the bound that is shown with a power of 80 %."""
    return float((norm.isf(alpha) + norm.ppf(POWER)) * error)


def rows_needed(rows: int, difference: float, error: float, alpha: float) -> int | None:
    """How many rows would show a difference to the bound of this size with a power of 80 %; None where none would, since it is not there."""
    return math.ceil(rows * (detectable(error, alpha) / difference) ** 2) if difference > 0 else None
