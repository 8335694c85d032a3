"""The temperature: one number that makes a model's probabilities as certain as they are right, without changing which answer is the best."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks import modalities
from tasks.contracts.model_info import ModelInfo
from tasks.modalities.text.tfidf import TfidfModel
from tasks.problems.base import Problem, Targets
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

MIN_ROWS, MAX_ROWS = (
    50,
    2000,
)  # rows: with fewer nothing is known of how certain answers should be, and more tell nothing new of one number
PRIOR_STD = (
    0.5  # of the temperature's logarithm around 0, before any row is seen (normal distribution)
)
MAX_LOG_TEMPERATURE = math.log(20.0)
TFIDF_WEIGHTS = (
    0.0,
    0.25,
    0.35,
    0.5,
    0.7,
    1.0,
    1.4,
    2.0,
    2.8,
    4.0,
    8.0,
)  # of the lexical part, where the network's is 1


def calibrate_model(folder: Path, problem: Problem, rows: Sequence[Any], targets: Targets) -> None:
    """Fit the temperature of the exported model in `folder` on rows (of the validation split), and note it in model.json; so too the weight of a lexical part."""
    if not problem.IS_CALIBRATED:
        return
    step = math.ceil(len(rows) / MAX_ROWS) or 1
    info = ModelInfo.read(ModelFolder(folder).info)
    found = {"temperature": 1.0}
    if len(rows) >= MIN_ROWS:
        network_alone = info.model_copy(update={"tfidf_weight": None})
        predictor = modalities.open_predictor(folder, network_alone)
        rows, targets = rows[::step], targets[::step]
        answers, best = modalities.predict(predictor, rows), math.inf
        lexical = None if info.tfidf_weight is None else TfidfModel(folder)(rows)
        for weight in (0.0,) if lexical is None else TFIDF_WEIGHTS:
            both = (
                answers
                if lexical is None
                else problem.decode_outputs(np.log(np.maximum(answers, 1e-30)) + weight * lexical)
            )
            temperature, loss = fit_temperature(problem, targets, both)
            if loss < best:
                found, best = (
                    {
                        "temperature": temperature,
                        **({} if lexical is None else {"tfidf_weight": weight}),
                    },
                    loss,
                )
    info.model_copy(update=found).write(ModelFolder(folder).info)


def fit_temperature(problem: Problem, targets: Targets, answers: Floats) -> tuple[float, float]:
    """What the outputs of the network that gave these answers are to be divided by, such that the log-loss is least (Guo et al. 2017); 1 where nothing is better; and the loss with it.

    Where all rows are answered rightly the least loss is that of any certainty: so 1 is held to be likely beforehand, which a few wrong answers outweigh.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        said = problem.compact_predictions(
            targets, problem.scale_by_temperature(answers, math.exp(logarithm))
        )
        return problem.point_estimates(targets, said, ["log_loss"])["log_loss"] + (
            logarithm / PRIOR_STD
        ) ** 2 / 2 / len(targets)

    found = minimize_scalar(
        loss, bounds=(-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE), method="bounded"
    )
    return (round(math.exp(found.x), 4), found.fun) if found.fun < loss(0.0) else (1.0, loss(0.0))
