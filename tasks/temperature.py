"""The temperature: one number that makes a model's probabilities as certain as they are right, without changing which answer is the best."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks import files, modalities
from tasks.problems import Floats, Problem, Targets

FEWEST, ENOUGH = 50, 2000  # rows: with fewer nothing is known of how certain answers should be, and more tell nothing new of one number
SPREAD = 0.5  # of the temperature's logarithm around 0, before any row is seen (normal distribution)
WIDEST = math.log(20.0)


def calibrate(folder: Path, problem: Problem, rows: Sequence[Any], targets: Targets) -> None:
    """Fit the temperature of the exported model in `folder` on rows (of the validation split), and note it in model.json."""
    if problem.CALIBRATED:
        step = math.ceil(len(rows) / ENOUGH) or 1
        found = fitted(problem, targets[::step], modalities.predict(modalities.predictor(folder), rows[::step])) if len(rows) >= FEWEST else 1.0
        files.write_json(folder / "model.json", {**files.read_json(folder / "model.json"), "temperature": found})


def fitted(problem: Problem, targets: Targets, answers: Floats) -> float:
    """What the outputs of the network that gave these answers are to be divided by, such that the log-loss is least (Guo et al. 2017); 1 where nothing is better.

    Where all rows are answered rightly the least loss is that of any certainty: so 1 is held to be likely beforehand, which a few wrong answers outweigh.
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        said = problem.said(targets, problem.tempered(answers, math.exp(logarithm)))
        return problem.points(targets, said, ["log_loss"])["log_loss"] + (logarithm / SPREAD) ** 2 / 2 / len(targets)

    found = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded")
    return round(math.exp(found.x), 4) if found.fun < loss(0.0) else 1.0
