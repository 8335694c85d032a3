"""Calibration: whether answers are right as often as they are certain.

Expected calibration error and log-loss, as served and without the model's temperature.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.contracts.base import JsonObject
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.statistics import intervals
from tasks.statistics.array_types import Floats

N_BINS = 15  # of equal width (Guo et al. 2017)


class Confidences(NamedTuple):
    """Probabilities that the model gave, each array of shape [rows, probabilities of a row].

    Attributes:
        probability: The probability.
        is_true: Whether that which it is the probability of is true.
        bin: The bin that it falls into.
    """

    probability: Floats
    is_true: NDArray[np.bool_]
    bin: NDArray[np.int64]


def measure(context: EvaluationContext) -> AspectResult | None:
    """Measure calibration after and before the temperature; None without probabilities."""
    problem = context.problem
    if not problem.IS_CALIBRATED:
        return None
    untempered = problem.scale_by_temperature(context.answers, 1 / problem.temperature)
    metrics = {
        "temperature": problem.temperature,
        **compute_calibration_metrics(context, context.answers),
        "before": compute_calibration_metrics(context, untempered),
    }
    report = {
        "after": compute_reliability_curve(context, context.answers),
        "before": compute_reliability_curve(context, untempered),
    }
    return AspectResult(metrics, report)


def compute_calibration_metrics(context: EvaluationContext, answers: Floats) -> JsonObject:
    """Return expected calibration error and log-loss with their intervals."""
    problem = context.problem
    confidences = bin_confidences(context, answers)
    n_rows, n_per_row = confidences.probability.shape
    # what each row adds to the gap of each bin, shape [rows, bins]
    gaps = np.zeros((n_rows, N_BINS))
    surprise = (confidences.is_true - confidences.probability) / n_per_row
    np.add.at(gaps, (np.arange(n_rows)[:, None], confidences.bin), surprise)

    def calibration_error(weights: Floats) -> Floats:
        """Return the error of weighted rows; from [resamples, rows] to [resamples]."""
        return np.asarray(np.abs(weights @ gaps).sum(1) / weights.sum(1))

    point = float(calibration_error(np.ones((1, n_rows)))[0])
    resamples = problem.bootstrap_weights(context.targets, context.config)
    samples = np.concatenate([calibration_error(weights) for weights in resamples])
    predictions = problem.compact_predictions(context.targets, answers)
    log_loss = problem.metric_intervals(context.targets, predictions, context.config, ["log_loss"])
    error = intervals.bias_corrected_interval(point, samples, context.config)
    return {"expected_calibration_error": error, **log_loss}


def bin_confidences(context: EvaluationContext, answers: Floats) -> Confidences:
    """Return the probabilities that were given, with the bin of each."""
    probability, is_true = context.problem.extract_confidences(context.targets, answers)
    bins = np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)
    return Confidences(probability, is_true, bins)


def compute_reliability_curve(
    context: EvaluationContext, answers: Floats
) -> list[tuple[float, float, int]]:
    """Return (mean probability, fraction that is true, count) of each bin that is not empty."""
    confidences = bin_confidences(context, answers)
    curve = []
    for number in range(N_BINS):
        in_bin = confidences.bin == number
        probability = confidences.probability[in_bin]
        if len(probability) == 0:
            continue
        fraction_true = float(confidences.is_true[in_bin].mean())
        curve.append(
            (
                round(float(probability.mean()), intervals.DIGITS),
                round(fraction_true, intervals.DIGITS),
                len(probability),
            )
        )
    return curve
