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


def bootstrapped(value: float, differences: Floats, bound: float) -> float:
    """The p-value that a difference is at most `bound`, from its values in resamples: the share that is, or that of the normal distribution of their spread.

    Each alone is somewhat too small with a few hundred rows (Davison and Hinkley 1997, ch. 4 and 5), so the larger one counts.
    """
    share = (1 + (~(differences > bound)).sum()) / (1 + len(differences))
    spread = differences.std()
    return float(max(share, norm.sf((value - bound) / spread) if spread else 0.0))


def holm(values: Sequence[float]) -> list[float]:
    """p-values that may each be held against alpha, however many there are (Holm 1979)."""
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable").tolist()):
        highest = max(highest, min(1.0, values[index] * (len(values) - rank)))
        adjusted[index] = highest
    return adjusted


def detectable(error: float, alpha: float) -> float:
    """The smallest difference to the bound that is shown with a power of 80 %."""
    return float((norm.isf(alpha) + norm.ppf(POWER)) * error)


def rows_needed(rows: int, difference: float, error: float, alpha: float) -> int | None:
    """How many rows would show a difference to the bound of this size with a power of 80 %; None where none would, since it is not there."""
    return math.ceil(rows * (detectable(error, alpha) / difference) ** 2) if difference > 0 else None
