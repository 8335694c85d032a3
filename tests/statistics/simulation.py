"""Simulates challengers with a known accuracy, and how often the gate promotes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.contracts.gate_verdict import ComparisonResult
from tasks.problems.classification import ClassPredictions
from tasks.recipe.recipe import Recipe
from tasks.statistics import comparison
from tasks.statistics.array_types import Flags, Ints
from tests.gating.helpers import BASE, FLOOR, judge_predictions

ALPHA = 0.025
CHAMPION_ACCURACY = 0.9
SHARED_ERRORS = 0.6  # of the champion's errors, also the challenger's
N_COMPARISONS = 20  # with the same champion

Rule = dict[str, Any]  # keys of a rule on a champion, as in a recipe


@dataclass(frozen=True)
class PromotionCurves:
    """The share of histories that have promoted a challenger by each comparison."""

    spending: list[float]  # as the gate spends alpha
    careless: list[float]  # if each comparison spent all of alpha


def build_recipe(rule: Rule, resamples: int = 400) -> Recipe:
    """Build a recipe with a rule on a champion."""
    gate = [{**FLOOR, "bound": 0.5}, {"rule": "champion", **rule}]
    return Recipe.model_validate({**BASE, "gate": gate, "evaluate": {"resamples": resamples}})


def draw_champion_errors(rng: np.random.Generator, n_rows: int) -> Flags:
    """Draw the rows that the champion gets wrong, `[rows]`."""
    return rng.random(n_rows) < 1 - CHAMPION_ACCURACY


def draw_challenger_errors(
    rng: np.random.Generator, champion_errors: Flags, difference: float
) -> Flags:
    """Draw the rows that a challenger gets wrong, `[rows]`.

    Args:
        rng: The source of random numbers.
        champion_errors: The rows that the champion gets wrong, `[rows]`.
        difference: The challenger's true accuracy minus the champion's.
    """
    n_rows = len(champion_errors)
    both_wrong = SHARED_ERRORS * (1 - CHAMPION_ACCURACY)
    challenger_wrong = 1 - CHAMPION_ACCURACY - difference
    wrong_if_champion_right = (challenger_wrong - both_wrong) / CHAMPION_ACCURACY
    is_shared = rng.random(n_rows) < SHARED_ERRORS
    is_own = rng.random(n_rows) < wrong_if_champion_right
    return np.where(champion_errors, is_shared, is_own)


def predict_with_errors(rng: np.random.Generator, labels: Ints, errors: Flags) -> ClassPredictions:
    """Return predictions of three classes that are wrong on these rows."""
    n_rows = len(labels)
    wrong_classes = (labels + rng.integers(1, 3, n_rows)) % 3
    wrong_losses = rng.exponential(2.0, n_rows) + 0.7
    right_losses = rng.exponential(0.1, n_rows)
    predicted = np.where(errors, wrong_classes, labels)
    return ClassPredictions(predicted, np.where(errors, wrong_losses, right_losses))


def draw_predictions(
    rng: np.random.Generator, labels: Ints, champion_errors: Flags, difference: float
) -> dict[str, ClassPredictions]:
    """Draw predictions of a challenger, `model`, and of a champion with these errors."""
    challenger_errors = draw_challenger_errors(rng, champion_errors, difference)
    return {
        "model": predict_with_errors(rng, labels, challenger_errors),
        "champion": predict_with_errors(rng, labels, champion_errors),
    }


def promotion_rate(
    rule: Rule, n_rows: int, difference: float, seed: int, n_challengers: int
) -> float:
    """Return the share of challengers that are promoted at their first comparison.

    Args:
        rule: The rule on the champion.
        n_rows: The number of test rows.
        difference: The challengers' true accuracy minus the champion's.
        seed: The seed of the simulation.
        n_challengers: The number of challengers, each with rows of its own.
    """
    recipe = build_recipe(rule)
    rng = np.random.default_rng(seed)
    labels = np.arange(n_rows, dtype=np.int64) % 3
    n_promoted = 0
    for _ in range(n_challengers):
        predictions = draw_predictions(rng, labels, draw_champion_errors(rng, n_rows), difference)
        decision = judge_predictions(recipe, labels, predictions)
        n_promoted += int(decision.verdict == "promote")
    return n_promoted / n_challengers


def simulate_histories(
    rule: Rule, difference: float, seed: int, n_histories: int, n_rows: int = 1000
) -> PromotionCurves:
    """Compare challengers with one champion again and again, on the same rows."""
    recipe = build_recipe({"metric": "accuracy", **rule}, resamples=100)
    rng = np.random.default_rng(seed)
    labels = np.arange(n_rows, dtype=np.int64) % 3
    spending = np.zeros(N_COMPARISONS)
    careless = np.zeros(N_COMPARISONS)
    alphas = [comparison.alpha_for_comparison(ALPHA, k) for k in range(1, N_COMPARISONS + 1)]
    for _ in range(n_histories):
        champion_errors = draw_champion_errors(rng, n_rows)
        p_values = []
        for number in range(1, N_COMPARISONS + 1):
            predictions = draw_predictions(rng, labels, champion_errors, difference)
            p_values.append(compare_with_champion(recipe, labels, predictions, number))
        spending += has_promoted(p_values, alphas)
        careless += has_promoted(p_values, [ALPHA] * N_COMPARISONS)
    return PromotionCurves((spending / n_histories).tolist(), (careless / n_histories).tolist())


def compare_with_champion(
    recipe: Recipe, labels: Ints, predictions: dict[str, ClassPredictions], number: int
) -> float:
    """Return the p-value of a comparison with a champion; the verdict must follow from it."""
    decision = judge_predictions(recipe, labels, predictions, number)
    check = decision.checks[1]
    assert isinstance(check, ComparisonResult)
    assert check.p_adjusted is not None
    is_significant = check.p_adjusted <= comparison.alpha_for_comparison(ALPHA, number)
    assert (decision.verdict == "promote") == is_significant
    return check.p_adjusted


def has_promoted(p_values: Sequence[float], alphas: Sequence[float]) -> Flags:
    """Tell for each comparison whether it or one before it promoted, `[comparisons]`."""
    promoted = [p_value <= alpha for p_value, alpha in zip(p_values, alphas, strict=True)]
    return np.asarray(np.maximum.accumulate(promoted))
