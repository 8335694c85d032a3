"""The statistics of the gate, against known values and over many simulated challengers."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from tasks.contracts.gate_verdict import ComparisonResult
from tasks.problems.classification import ClassPredictions
from tasks.recipe.recipe import Recipe
from tasks.statistics import comparison
from tests import plot_gate
from tests.gating.helpers import BASE, FLOOR, judge_predictions

ALPHA = 0.025
CHALLENGERS = 1000
RIGHT = 0.9  # accuracy of the champion


def pair(
    rng: np.random.Generator, rows: int, better: float, shared: float = 0.6, wrong: Any = None
) -> tuple[Any, dict[str, ClassPredictions]]:
    """Draw true classes, and the predictions of a champion and a challenger.

    Args:
        rng: The source of chance.
        rows: The number of rows.
        better: By how much the challenger's true accuracy is higher.
        shared: The share of the champion's errors that are also the challenger's.
        wrong: Which rows the champion has wrong; drawn if not given.
    """
    labels = np.arange(rows, dtype=np.int64) % 3
    wrong = rng.random(rows) < 1 - RIGHT if wrong is None else wrong
    both = shared * (1 - RIGHT)
    mine = np.where(
        wrong, rng.random(rows) < shared, rng.random(rows) < (1 - RIGHT - better - both) / RIGHT
    )
    said = {}
    for name, missed in (("model", mine), ("champion", wrong)):
        predicted = np.where(missed, (labels + rng.integers(1, 3, rows)) % 3, labels)
        said[name] = ClassPredictions(
            predicted,
            np.where(missed, rng.exponential(2.0, rows) + 0.7, rng.exponential(0.1, rows)),
        )
    return labels, said


def promoted(
    rule: dict[str, Any], rows: int, better: float, seed: int, challengers: int = CHALLENGERS
) -> float:
    """The share of challengers that is promoted at its first look."""
    recipe = recipe_of(rule)
    rng = np.random.default_rng(seed)
    verdicts = [
        judge_predictions(recipe, *pair(rng, rows, better)).verdict for _ in range(challengers)
    ]
    return verdicts.count("promote") / challengers


def recipe_of(rule: dict[str, Any], resamples: int = 400) -> Recipe:
    return Recipe.model_validate(
        {
            **BASE,
            "gate": [{**FLOOR, "bound": 0.5}, {"rule": "champion", **rule}],
            "evaluate": {"resamples": resamples},
        }
    )


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_of_equal_challengers_at_most_alpha_are_promoted_as_better(metric: str) -> None:
    assert 0 < promoted({"metric": metric, "require": "better"}, 1000, 0.0, seed=1) <= ALPHA


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_of_challengers_that_are_worse_by_the_margin_at_most_alpha_are_promoted_as_not_worse(
    metric: str,
) -> None:
    assert 0 < promoted({"metric": metric, "margin": 0.02}, 1000, -0.02, seed=2) <= ALPHA


def test_a_better_challenger_is_promoted_with_the_stated_power() -> None:
    better, rows = 0.01, 10_000
    alone = (
        0.4 * (1 - RIGHT),
        0.4 * (1 - RIGHT) - better,
    )  # shares of rows that only one of the two gets right
    error = float(np.sqrt((sum(alone) - better**2) / rows))
    alpha = comparison.alpha_for_comparison(ALPHA, 1)
    stated = float(norm.cdf(better / error - norm.isf(alpha)))
    assert better > comparison.detectable_difference(
        error, alpha
    )  # which is what the gate tells of rows that do not decide
    assert 0.9 < stated < 0.999
    assert (
        abs(
            promoted(
                {"metric": "accuracy", "require": "better"}, rows, better, seed=3, challengers=400
            )
            - stated
        )
        <= 0.03
    )


def histories(
    rule: dict[str, Any], better: float, seed: int, count: int
) -> tuple[list[float], list[float]]:
    """Measure how many histories have promoted a challenger by each of 20 looks.

    All looks of a history are at one champion on the same rows.

    Returns:
        The shares as the gate does it, and those with alpha at each look.
    """
    recipe, rng, rows = (
        recipe_of({"metric": "accuracy", **rule}, resamples=100),
        np.random.default_rng(seed),
        1000,
    )
    spending, careless = np.zeros((2, 20))
    for _ in range(count):
        labels = np.arange(rows, dtype=np.int64) % 3
        wrong = rng.random(rows) < 1 - RIGHT  # the champion's errors
        values: list[float] = []
        for look in range(1, 21):
            judged = judge_predictions(
                recipe, labels, pair(rng, rows, better, wrong=wrong)[1], look
            )
            check = judged.checks[1]
            assert isinstance(check, ComparisonResult)
            assert check.p_adjusted is not None
            values.append(check.p_adjusted)
            assert (judged.verdict == "promote") == (
                values[-1] <= comparison.alpha_for_comparison(ALPHA, look)
            )
        spending += np.maximum.accumulate(
            [
                value <= comparison.alpha_for_comparison(ALPHA, look)
                for look, value in enumerate(values, 1)
            ]
        )
        careless += np.maximum.accumulate([value <= ALPHA for value in values])
    return (spending / count).tolist(), (careless / count).tolist()


@pytest.mark.parametrize(
    ("rule", "better"), [({"require": "better"}, 0.0), ({"margin": 0.02}, -0.02)]
)
def test_over_twenty_looks_at_most_alpha_promote_a_wrong_challenger(
    rule: dict[str, Any], better: float
) -> None:
    spending, careless = histories(rule, better, seed=4, count=120)
    assert spending[-1] <= ALPHA < 3 * ALPHA < careless[-1]


def test_the_plot_in_the_documentation_shows_these_simulations() -> None:
    known = json.loads(plot_gate.NUMBERS.read_text())
    assert known["better"] == sorted(
        known["better"]
    )  # the better the challenger, the more often it is promoted
    at = known["differences"].index(0.01)
    for name, rule in plot_gate.RULES.items():
        assert plot_gate.share(rule, 0.01) == known[name][at]
    assert plot_gate.drawn(known) == plot_gate.PICTURE.read_text()


def test_what_all_looks_may_spend_is_never_more_than_alpha() -> None:
    looks = [comparison.alpha_for_comparison(ALPHA, look) for look in range(1, 10_000)]
    assert looks == sorted(looks, reverse=True)
    assert 0.999 * ALPHA < sum(looks) < ALPHA


@pytest.mark.parametrize(
    ("better", "worse", "rows", "margin"),
    [(3, 5, 285, 0.03), (20, 10, 1000, 0.02), (5, 1, 100, 0.01), (0, 4, 285, 0.03)],
)
def test_the_score_test_has_the_likeliest_shares_of_its_hypothesis(
    better: int, worse: int, rows: int, margin: float
) -> None:
    def unlikely(rare: float) -> float:
        told = (
            (better, rare),
            (worse, rare + margin),
            (rows - better - worse, 1 - 2 * rare - margin),
        )
        return -sum(count * float(np.log(share)) for count, share in told if count)

    rare = minimize_scalar(
        unlikely,
        bounds=(1e-12, (1 - margin) / 2 - 1e-9),
        method="bounded",
        options={"xatol": 1e-12},
    ).x
    expected = norm.sf(
        (better - worse + rows * margin) / (rows * (2 * rare + margin - margin**2)) ** 0.5
    )
    assert comparison.noninferiority_p_value(better, worse, rows, margin) == pytest.approx(
        expected, rel=1e-3
    )


def test_of_two_models_that_always_agree_few_rows_show_nothing() -> None:
    values = [comparison.noninferiority_p_value(0, 0, rows, 0.02) for rows in (16, 100, 285, 1000)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.2
    assert values[-1] < 1e-5
    assert (
        values[1] > ALPHA
    )  # the chance that none of a hundred rows is among the 2 % that a worse model loses is 13 %


def test_a_p_value_beyond_all_resamples_is_smaller_than_one_of_their_number() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.05, 0.01, 1000)
    assert (
        norm.sf(5)
        <= comparison.bootstrap_p_value(0.05, differences, 0.0)
        < 1e-4
        < 1 / len(differences)
    )
    assert comparison.bootstrap_p_value(0.05, differences, 0.03) == pytest.approx(
        norm.sf(2), rel=0.5
    )
    heavy = 0.05 + 0.01 * rng.standard_t(3, 1000) / 3**0.5
    assert comparison.bootstrap_p_value(0.05, heavy, -0.02) > 10 * norm.sf(7)


def test_gain_that_is_not_there_needs_no_number_of_rows() -> None:
    assert comparison.rows_needed(100, -0.01, 0.02, ALPHA) is None
    assert comparison.rows_needed(100, 0.01, 0.02, ALPHA) == int(
        np.ceil(100 * (comparison.detectable_difference(0.02, ALPHA) / 0.01) ** 2)
    )
