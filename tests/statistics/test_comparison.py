"""The statistics of the gate, against known values and over many simulated challengers."""

import json

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from tasks.statistics import comparison
from tests import plot_gate
from tests.statistics.simulation import (
    ALPHA,
    CHAMPION_ACCURACY,
    SHARED_ERRORS,
    Rule,
    promotion_rate,
    simulate_histories,
)

N_CHALLENGERS = 1000


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_at_most_alpha_of_equal_challengers_are_promoted_as_better(metric: str) -> None:
    rule = {"metric": metric, "require": "better"}
    assert 0 < promotion_rate(rule, 1000, 0.0, 1, N_CHALLENGERS) <= ALPHA


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_at_most_alpha_of_challengers_worse_by_the_margin_are_promoted(metric: str) -> None:
    rule = {"metric": metric, "margin": 0.02}
    assert 0 < promotion_rate(rule, 1000, -0.02, 2, N_CHALLENGERS) <= ALPHA


def test_a_better_challenger_is_promoted_with_the_stated_power() -> None:
    difference = 0.01
    n_rows = 10_000
    # The shares of rows that only one of the two gets right.
    only_challenger = (1 - SHARED_ERRORS) * (1 - CHAMPION_ACCURACY)
    only_champion = only_challenger - difference
    error = float(np.sqrt((only_challenger + only_champion - difference**2) / n_rows))
    alpha = comparison.alpha_for_comparison(ALPHA, 1)
    power = float(norm.cdf(difference / error - norm.isf(alpha)))
    assert difference > comparison.detectable_difference(error, alpha)
    assert 0.9 < power < 0.999
    rule = {"metric": "accuracy", "require": "better"}
    assert promotion_rate(rule, n_rows, difference, 3, 400) == pytest.approx(power, abs=0.03)


@pytest.mark.parametrize(
    ("rule", "difference"), [({"require": "better"}, 0.0), ({"margin": 0.02}, -0.02)]
)
def test_over_twenty_comparisons_at_most_alpha_of_histories_promote_wrongly(
    rule: Rule, difference: float
) -> None:
    curves = simulate_histories(rule, difference, seed=4, n_histories=120)
    assert curves.spending[-1] <= ALPHA < 3 * ALPHA < curves.careless[-1]


def test_the_plot_in_the_documentation_shows_these_simulations() -> None:
    numbers = json.loads(plot_gate.NUMBERS.read_text())
    assert numbers["better"] == sorted(numbers["better"])
    index = numbers["differences"].index(0.01)
    for name, rule in plot_gate.RULES.items():
        assert plot_gate.simulate_promotion_rate(rule, 0.01) == numbers[name][index]
    assert plot_gate.draw_svg(numbers) == plot_gate.PICTURE.read_text()


def test_all_comparisons_together_spend_at_most_alpha() -> None:
    alphas = [comparison.alpha_for_comparison(ALPHA, number) for number in range(1, 10_000)]
    assert alphas == sorted(alphas, reverse=True)
    assert 0.999 * ALPHA < sum(alphas) < ALPHA


@pytest.mark.parametrize(
    ("better", "worse", "rows", "margin"),
    [(3, 5, 285, 0.03), (20, 10, 1000, 0.02), (5, 1, 100, 0.01), (0, 4, 285, 0.03)],
)
def test_the_score_test_has_the_likeliest_shares_of_its_hypothesis(
    better: int, worse: int, rows: int, margin: float
) -> None:
    def unlikely(rare: float) -> float:
        outcomes = (
            (better, rare),
            (worse, rare + margin),
            (rows - better - worse, 1 - 2 * rare - margin),
        )
        return -sum(count * float(np.log(share)) for count, share in outcomes if count)

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
    # With 13 % chance, none of 100 rows is among the 2 % that a worse model gets wrong.
    assert values[1] > ALPHA


def test_a_p_value_goes_on_below_what_the_number_of_resamples_can_tell() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.05, 0.01, 1000)
    p_value = comparison.bootstrap_p_value(0.05, differences, 0.0)
    assert norm.sf(5) <= p_value < 1e-4 < 1 / len(differences)
    p_value = comparison.bootstrap_p_value(0.05, differences, 0.03)
    assert p_value == pytest.approx(norm.sf(2), rel=0.5)
    heavy_tailed = 0.05 + 0.01 * rng.standard_t(3, 1000) / 3**0.5
    assert comparison.bootstrap_p_value(0.05, heavy_tailed, -0.02) > 10 * norm.sf(7)


def test_without_a_gain_no_number_of_rows_decides() -> None:
    assert comparison.rows_needed(100, -0.01, 0.02, ALPHA) is None
    ratio = comparison.detectable_difference(0.02, ALPHA) / 0.01
    assert comparison.rows_needed(100, 0.01, 0.02, ALPHA) == int(np.ceil(100 * ratio**2))
