"""The statistics of the gate, against known values and over many simulated challengers."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from tasks import comparison, gate
from tasks.problems.classification import Scored
from tasks.recipe import Recipe
from tests.test_gate import BASE, FLOOR, THREE

ALPHA = 0.025
CHALLENGERS = 1000
RIGHT = 0.9  # accuracy of the champion


def pair(rng: np.random.Generator, rows: int, better: float, shared: float = 0.6) -> tuple[Any, dict[str, Scored]]:
    """True classes, a champion, and a challenger whose true accuracy differs by `better`; this share of the champion's errors are also the challenger's."""
    labels = np.arange(rows, dtype=np.int64) % 3
    wrong = rng.random(rows) < 1 - RIGHT
    both = shared * (1 - RIGHT)
    mine = np.where(wrong, rng.random(rows) < shared, rng.random(rows) < (1 - RIGHT - better - both) / RIGHT)
    said = {}
    for name, missed in (("model", mine), ("champion", wrong)):
        predicted = np.where(missed, (labels + rng.integers(1, 3, rows)) % 3, labels)
        said[name] = Scored(predicted, np.where(missed, rng.exponential(2.0, rows) + 0.7, rng.exponential(0.1, rows)))
    return labels, said


def promoted(rule: dict[str, Any], rows: int, better: float, seed: int, challengers: int = CHALLENGERS) -> float:
    recipe = Recipe.model_validate({**BASE, "gate": [{**FLOOR, "bound": 0.5}, {"rule": "champion", **rule}], "evaluate": {"resamples": 400}})
    rng = np.random.default_rng(seed)
    verdicts = [gate.judge(recipe, THREE, *pair(rng, rows, better))["verdict"] for _ in range(challengers)]
    return verdicts.count("promote") / challengers


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_of_equal_challengers_at_most_alpha_are_promoted_as_better(metric: str) -> None:
    assert 0 < promoted({"metric": metric, "require": "better"}, 1000, 0.0, seed=1) <= ALPHA


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_of_challengers_that_are_worse_by_the_margin_at_most_alpha_are_promoted_as_not_worse(metric: str) -> None:
    assert 0 < promoted({"metric": metric, "margin": 0.02}, 1000, -0.02, seed=2) <= ALPHA


def test_a_better_challenger_is_promoted_with_the_stated_power() -> None:
    better, rows = 0.01, 10_000
    alone = (0.4 * (1 - RIGHT), 0.4 * (1 - RIGHT) - better)  # shares of rows that only one of the two gets right
    error = float(np.sqrt((sum(alone) - better**2) / rows))
    stated = float(norm.cdf(better / error - norm.isf(ALPHA)))
    assert better > comparison.detectable(error, ALPHA)  # which is what the gate tells of rows that do not decide
    assert 0.9 < stated < 0.999
    assert abs(promoted({"metric": "accuracy", "require": "better"}, rows, better, seed=3, challengers=400) - stated) <= 0.03
