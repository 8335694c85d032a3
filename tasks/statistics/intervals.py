"""Intervals."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from tasks.recipe.evaluate import Evaluate
from tasks.statistics.array_types import Floats


def proportion_interval(hits: NDArray[np.bool_], section: Evaluate) -> dict[str, float]:
    """The share of rows of which something is true, with its exact interval (Clopper and Pearson 1934)."""
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(section.confidence)
    return {
        name: round(float(value), DIGITS)
        for name, value in (("value", hits.mean()), ("low", low), ("high", high))
    }


DIGITS = 6


def percentile_interval(point: float, drawn: Floats, section: Evaluate) -> dict[str, float]:
    """A metric as value, low and high: the percentile interval, over the resamples that have a value."""
    low, high = percentile_bounds(drawn[~np.isnan(drawn)], section.confidence)
    return {"value": round(point, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def percentile_bounds(values: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bias_corrected_interval(point: float, drawn: Floats, section: Evaluate) -> dict[str, float]:
    """The same of a gap, which is never less than 0 and so is larger in resamples than in the rows: its values there are moved by as much as that is on average."""
    return percentile_interval(point, np.maximum(drawn - np.nanmean(drawn) + point, 0.0), section)
