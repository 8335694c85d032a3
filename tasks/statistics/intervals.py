"""Confidence intervals of metrics, from bootstrap samples or exact."""

import numpy as np
from scipy.stats import binomtest

from tasks.recipe.evaluate import Evaluate
from tasks.statistics.array_types import Flags, Floats

DIGITS = 6


def proportion_interval(hits: Flags, config: Evaluate) -> dict[str, float]:
    """Return the share of true values with its exact interval (Clopper and Pearson 1934).

    Args:
        hits: One truth value for each row, `[rows]`.
        config: The confidence of the interval.
    """
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(config.confidence)
    return round_interval(hits.mean(), low, high)


def percentile_interval(point: float, samples: Floats, config: Evaluate) -> dict[str, float]:
    """Return a metric with its percentile interval, over the resamples that have a value.

    Args:
        point: The metric of all rows.
        samples: The metric of each resample, `[resamples]`, NaN if it has no value.
        config: The confidence of the interval.
    """
    low, high = percentile_bounds(samples[~np.isnan(samples)], config.confidence)
    return round_interval(point, low, high)


def percentile_bounds(values: Floats, confidence: float) -> tuple[float, float]:
    """Return the quantiles between which this share of the values lies."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bias_corrected_interval(point: float, samples: Floats, config: Evaluate) -> dict[str, float]:
    """Return the interval of a gap, which is never negative.

    A gap is larger in resamples than in the rows, so its samples are shifted by their mean excess.
    """
    shifted = np.maximum(samples - np.nanmean(samples) + point, 0.0)
    return percentile_interval(point, shifted, config)


def round_interval(value: float, low: float, high: float) -> dict[str, float]:
    """Return a number and its interval as they are written to files."""
    return {
        "value": round(float(value), DIGITS),
        "low": round(float(low), DIGITS),
        "high": round(float(high), DIGITS),
    }
