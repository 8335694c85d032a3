"""The temperature: one number that makes a model's probabilities as certain as they are right.

It does not change which class is the most probable (Guo et al. 2017).
"""

import math
from dataclasses import dataclass

import numpy as np

from tasks import modalities
from tasks.modalities.text.tfidf import TfidfModel
from tasks.problems.base import Problem, Targets
from tasks.statistics.array_types import Floats
from tasks.training.export import ModelExport
from tasks.training.labelled_rows import LabelledRows

MIN_ROWS = 50  # with fewer nothing is known about how certain predictions should be
MAX_ROWS = 2000  # more rows tell nothing new about one number
PRIOR_STD = 0.5  # of the temperature's logarithm, whose prior is normal around 0
MAX_LOG_TEMPERATURE = math.log(20.0)
MIN_PROBABILITY = 1e-30
# Weights to try for the TF-IDF model; the network's is 1.
TFIDF_WEIGHTS = (0.0, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0)


@dataclass(frozen=True)
class Calibration:
    """The temperature, the weight of a TF-IDF model if there is one, and the loss with both."""

    temperature: float
    tfidf_weight: float | None
    loss: float


def calibrate_model(model: ModelExport, problem: Problem, val: LabelledRows | None) -> None:
    """Fit the temperature, and the weight of a TF-IDF model, and note them in the model's info.

    Args:
        model: The exported model, without a temperature.
        problem: What it predicts. Not all problems have probabilities.
        val: The validation rows, if there are any; with too few of them the temperature is 1.
    """
    if not problem.IS_CALIBRATED:
        return
    model.note(temperature=1.0)
    if val is None or len(val.inputs) < MIN_ROWS:
        return
    calibration = fit_calibration(model, problem, val.thin(MAX_ROWS))
    model.note(temperature=calibration.temperature, tfidf_weight=calibration.tfidf_weight)


def fit_calibration(model: ModelExport, problem: Problem, rows: LabelledRows) -> Calibration:
    """Find the temperature and weight with the least log-loss; of equal ones the first."""
    network_alone = model.info.model_copy(update={"temperature": None, "tfidf_weight": None})
    predictor = modalities.open_predictor(model.folder.path, network_alone)
    probabilities = modalities.predict(predictor, rows.inputs)  # [rows, classes]
    if model.info.tfidf_weight is None:
        temperature, loss = fit_temperature(problem, rows.targets, probabilities)
        return Calibration(temperature, None, loss)
    tfidf_outputs = TfidfModel(model.folder.path)(rows.inputs)  # [rows, classes]
    candidates = []
    for weight in TFIDF_WEIGHTS:
        outputs = np.log(np.maximum(probabilities, MIN_PROBABILITY)) + weight * tfidf_outputs
        temperature, loss = fit_temperature(problem, rows.targets, problem.decode_outputs(outputs))
        candidates.append(Calibration(temperature, weight, loss))
    return min(candidates, key=lambda candidate: candidate.loss)


def fit_temperature(
    problem: Problem, targets: Targets, probabilities: Floats
) -> tuple[float, float]:
    """Fit the number that the outputs of the network are to be divided by.

    If all predictions are right, the log-loss is least with infinite certainty. So temperatures
    near 1 are more probable beforehand, which a few wrong predictions outweigh.

    Args:
        problem: What is predicted.
        targets: The truth, `[rows, ...]`.
        probabilities: What the network predicted, `[rows, classes]`.

    Returns:
        The temperature, 1 if none is better, and the log-loss with it, including the prior's part.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        scaled = problem.scale_by_temperature(probabilities, math.exp(log_temperature))
        predictions = problem.compact_predictions(targets, scaled)
        log_loss = problem.point_estimates(targets, predictions, ["log_loss"])["log_loss"]
        return log_loss + (log_temperature / PRIOR_STD) ** 2 / 2 / len(targets)

    bounds = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
    result = minimize_scalar(loss, bounds=bounds, method="bounded")
    loss_without = loss(0.0)
    if result.fun < loss_without:
        return round(math.exp(result.x), 4), result.fun
    return 1.0, loss_without
