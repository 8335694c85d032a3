"""The model beside its opponents: outcomes on small known predictions, and that it fails closed."""

import numpy as np
import pytest

from tasks.contracts.gate_verdict import ComparisonResult
from tasks.gating import decision
from tasks.gating.decision import Decision, GateInputs
from tasks.problems.classification import ClassPredictions
from tests.gating.helpers import (
    PROBLEM,
    build_pair,
    build_recipe,
    judge_accuracies,
    judge_predictions,
    predict_with_accuracy,
)


def comparison_result(decided: Decision, index: int) -> ComparisonResult:
    check = decided.checks[index]
    assert isinstance(check, ComparisonResult)
    return check


def test_a_rule_on_a_champion_is_skipped_without_one() -> None:
    assert judge_accuracies(3000, 0.95, baseline=0.85).checks[2].outcome == "skipped"


def test_a_missing_baseline_does_not_pass() -> None:
    missing = judge_accuracies(3000, 0.95, champion=0.5)
    assert missing.verdict == "reject"
    assert missing.reason == "The rule produced no result and therefore fails."


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "ceiling", "metric": "log_loss", "bound": 1.0},
        {"rule": "baseline", "metric": "log_loss"},
    ],
)
def test_a_loss_that_is_not_a_number_fails_closed(rule: dict[str, object]) -> None:
    labels = np.arange(300, dtype=np.int64) % 3
    broken = ClassPredictions(labels, np.full(300, np.nan))
    predictions = {"model": broken, "baseline": broken}
    judged = judge_predictions(build_recipe(rule), labels, predictions)
    assert (judged.verdict, judged.checks[1].value) == ("reject", None)
    assert "not a number" in judged.reason


@pytest.mark.parametrize(("require", "verdict"), [("not_worse", "promote"), ("better", "reject")])
def test_the_champion_itself_is_not_worse_and_not_better(require: str, verdict: str) -> None:
    labels = np.arange(300, dtype=np.int64) % 3
    same = predict_with_accuracy(labels, 0.9, 0)
    rule = {"rule": "champion", "metric": "macro_f1", "require": require, "margin": 0.0}
    judged = judge_predictions(build_recipe(rule), labels, {"model": same, "champion": same})
    assert judged.verdict == verdict
    assert "by more than 0" in judged.checks[1].reason
    assert "e-3" not in judged.checks[1].reason


@pytest.mark.parametrize(("rows", "verdict"), [(60, "inconclusive"), (600, "promote")])
def test_agreement_on_few_rows_does_not_show_no_worse(rows: int, verdict: str) -> None:
    rule = {"rule": "champion", "metric": "accuracy", "margin": 0.02}
    labels = np.arange(rows, dtype=np.int64) % 3
    same = predict_with_accuracy(labels, 1.0, 0)
    judged = judge_predictions(build_recipe(rule), labels, {"model": same, "champion": same})
    assert judged.verdict == verdict


def test_slices_share_one_error_rate_and_the_worst_decides() -> None:
    by_channel = {"rule": "champion", "metric": "accuracy", "margin": 0.05, "by": "channel"}
    overall = {"rule": "champion", "metric": "accuracy", "margin": 0.05}
    labels = np.arange(600, dtype=np.int64) % 3
    champion = predict_with_accuracy(labels, 0.9, 1)
    good = {"model": predict_with_accuracy(labels, 0.95, 0), "champion": champion}
    bad = {"model": predict_with_accuracy(labels, 0.7, 0), "champion": champion}
    pairs = {
        "": build_pair(labels, good, "champion"),
        "channel=email": build_pair(labels, good, "champion"),
        "channel=fax": build_pair(labels, bad, "champion"),
    }
    inputs = GateInputs({"rows": 600, "accuracy": 0.95}, PROBLEM, {"champion": pairs})
    judged = decision.judge(build_recipe(by_channel, overall), inputs)
    assert judged.verdict == "reject"
    assert [check.outcome for check in judged.checks] == ["pass", "fail", "pass"]
    assert judged.reason.startswith(
        "On channel=fax: accuracy 0.7000 against 0.9000 of the champion"
    )
    alone = comparison_result(decision.judge(build_recipe(overall), inputs), 1)
    # Two of the three comparisons are the one of all rows.
    assert comparison_result(judged, 2).p_adjusted == pytest.approx(2 * (alone.p_adjusted or 0))


def test_each_comparison_with_a_champion_has_less_to_spend() -> None:
    labels = np.arange(1000, dtype=np.int64) % 3
    predictions = {
        "model": predict_with_accuracy(labels, 0.93, 0),
        "champion": predict_with_accuracy(labels, 0.9, 1),
    }
    recipe = build_recipe({"rule": "champion", "metric": "accuracy", "require": "better"})
    first = judge_predictions(recipe, labels, predictions, comparison_number=1)
    fifth = judge_predictions(recipe, labels, predictions, comparison_number=5)
    assert (first.verdict, fifth.verdict) == ("promote", "inconclusive")
    assert comparison_result(first, 1).alpha == 0.0125
    assert comparison_result(fifth, 1).alpha == round(0.025 / 30, 6)
    assert "at error rate 0.00083 of comparison 5 with it)" in fifth.reason
