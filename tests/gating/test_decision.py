"""The verdict that follows from the rules' outcomes."""

from tests.gating.helpers import build_recipe, judge_accuracies, judge_metrics


def test_a_better_model_is_promoted() -> None:
    assert judge_accuracies(3000, 0.95, baseline=0.85, champion=0.9).verdict == "promote"


def test_a_worse_model_is_rejected_with_the_numbers() -> None:
    worse = judge_accuracies(3000, 0.85, baseline=0.8, champion=0.95)
    assert worse.verdict == "reject"
    expected = "accuracy 0.8500 against 0.9500 of the champion (difference -0.1000"
    assert expected in worse.reason


def test_too_few_rows_are_inconclusive_and_promote_nothing() -> None:
    assert judge_accuracies(30, 0.9, baseline=0.5, champion=0.9).verdict == "inconclusive"


def test_below_the_floor_nothing_else_counts() -> None:
    assert judge_accuracies(3000, 0.7, baseline=0.1, champion=0.2).verdict == "reject"


def test_ten_test_rows_decide_no_comparison() -> None:
    judged = judge_accuracies(10, 1.0, baseline=0.0, champion=0.0)
    assert judged.verdict == "inconclusive"
    sentence = "10 test rows are too few to compare with the champion: at least 16 are needed."
    assert sentence in judged.reason


def test_ten_test_rows_decide_nothing_though_every_rule_is_met() -> None:
    judged = judge_metrics(build_recipe(), {"rows": 10, "accuracy": 1.0})
    assert judged.verdict == "inconclusive"
    assert judged.reason == (
        "Every rule is met, but on 10 test rows, which decide nothing: at least 16 are needed."
    )
    assert judge_metrics(build_recipe(), {"rows": 16, "accuracy": 1.0}).verdict == "promote"
