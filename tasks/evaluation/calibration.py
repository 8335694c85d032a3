"""Calibration: are answers as often right as they are certain? Expected calibration error and log-loss, with the model's temperature and before it."""

from typing import Any

import numpy as np

from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.statistics import intervals
from tasks.statistics.array_types import Floats

N_BINS = 15  # of equal width, as Guo et al. (2017) have them


def measure(case: EvaluationContext) -> AspectResult | None:
    problem = case.problem
    if not problem.IS_CALIBRATED:
        return None
    both = {
        "after": case.answers,
        "before": problem.scale_by_temperature(case.answers, 1 / problem.temperature),
    }
    found = {when: compute_calibration_metrics(case, answers) for when, answers in both.items()}
    metrics = {"temperature": problem.temperature, **found["after"], "before": found["before"]}
    return AspectResult(
        metrics, {when: compute_reliability_curve(case, answers) for when, answers in both.items()}
    )


def compute_calibration_metrics(case: EvaluationContext, answers: Floats) -> dict[str, Any]:
    problem, targets, section = case.problem, case.targets, case.recipe.evaluate
    at, said, right = bin_confidences(case, answers)
    gaps = np.zeros((len(said), N_BINS))
    np.add.at(gaps, (np.arange(len(said))[:, None], at), (right - said) / said.shape[1])

    def of(weights: Floats) -> Floats:
        return np.asarray(np.abs(weights @ gaps).sum(1) / weights.sum(1))

    spread = np.concatenate(
        [of(weights) for weights in problem.bootstrap_weights(targets, section)]
    )
    error = intervals.bias_corrected_interval(
        float(of(np.ones((1, len(said))))[0]), spread, section
    )
    return {
        "expected_calibration_error": error,
        **problem.metric_intervals(
            targets, problem.compact_predictions(targets, answers), section, ["log_loss"]
        ),
    }


def bin_confidences(case: EvaluationContext, answers: Floats) -> tuple[Any, Floats, Any]:
    """The bin of each probability that was given, it itself, and whether what it is of is true, each of shape (rows, how many of a row)."""
    said, right = case.problem.extract_confidences(case.targets, answers)
    return np.minimum((said * N_BINS).astype(np.int64), N_BINS - 1), said, right


def compute_reliability_curve(
    case: EvaluationContext, answers: Floats
) -> list[tuple[float, float, int]]:
    """For each bin that is not empty the mean probability in it, how often it was right, and how many there are."""
    at, said, right = bin_confidences(case, answers)
    parts = [(said[at == number], right[at == number]) for number in range(N_BINS)]
    return [
        (
            round(float(sure.mean()), intervals.DIGITS),
            round(float(true.mean()), intervals.DIGITS),
            len(sure),
        )
        for sure, true in parts
        if len(sure)
    ]
