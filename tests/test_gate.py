"""The gate's verdicts on small known answers, and its refusals."""

from typing import Any

import numpy as np
import pytest

from tasks import gate, problems
from tasks.problems.classification import Ints, Problem, Scored
from tasks.recipe import Evaluate, Recipe

BASE = {"name": "tiny", "modality": "text", "ingest": {"kind": "files", "path": "x.csv"}, "clean": {"rules": []}}
THREE = Problem(["one", "three", "two"])
FLOOR = {"rule": "floor", "metric": "accuracy", "bound": 0.8}


def recipe(*rules: Any) -> Recipe:
    return Recipe.model_validate({**BASE, "gate": [FLOOR, *rules]})


def answers(labels: Ints, accuracy: float, seed: int) -> Scored:
    """Answers of which this share is right."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(labels))[: round(len(labels) * (1 - accuracy))]
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + 1) % 3
    return Scored(predicted, np.where(predicted == labels, 0.1, 2.0))


def judged(rows: int, model: float, **others: float) -> dict[str, object]:
    labels = np.arange(rows, dtype=np.int64) % 3
    said = {"model": answers(labels, model, 0), **{name: answers(labels, share, seed) for seed, (name, share) in enumerate(others.items(), 1)}}
    rules = [{"rule": name, "metric": "accuracy", "margin": 0.01 if name == "champion" else 0.0} for name in ("baseline", "champion")]
    return gate.judge(recipe(*rules), THREE, labels, said)


def test_a_better_model_is_promoted_and_a_worse_one_rejected_with_the_numbers() -> None:
    assert judged(3000, 0.95, baseline=0.85, champion=0.9)["verdict"] == "promote"
    worse = judged(3000, 0.85, baseline=0.8, champion=0.95)
    assert worse["verdict"] == "reject"
    assert "accuracy 0.8500 against 0.9500 of the champion (difference -0.1000" in str(worse["reason"])


def test_too_few_rows_are_inconclusive_and_promote_nothing() -> None:
    assert judged(30, 0.9, baseline=0.5, champion=0.9)["verdict"] == "inconclusive"


def test_below_the_floor_nothing_else_counts() -> None:
    assert judged(3000, 0.7, baseline=0.1, champion=0.2)["verdict"] == "reject"


def test_no_champion_is_said_and_a_missing_baseline_does_not_pass_silently() -> None:
    result = judged(3000, 0.95, baseline=0.85)
    assert result["checks"][2]["outcome"] == "none"  # type: ignore[index]


def test_a_loss_that_is_not_a_number_fails_closed() -> None:
    labels = np.arange(300, dtype=np.int64) % 3
    broken = Scored(labels, np.full(300, np.nan))
    rule = {"rule": "floor", "metric": "log_loss", "bound": 1.0}
    assert gate.judge(recipe(rule), THREE, labels, {"model": broken, "baseline": broken})["verdict"] == "reject"


def test_intervals_cover_and_repeat() -> None:
    labels = np.arange(600, dtype=np.int64) % 3
    said = answers(labels, 0.9, 0)
    drawn = [THREE.samples("accuracy", labels, [said], Evaluate())[:, 0] for _ in range(2)]
    assert (drawn[0] == drawn[1]).all()
    low, high = problems.bounds(drawn[0], 0.95)
    assert low < 0.9 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.9 * 0.1 / 600) ** 0.5, rel=0.15)


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    labels = np.arange(200, dtype=np.int64) % 3
    said = answers(labels, 0.6, 3)
    points = THREE.points(labels, said)
    assert points["accuracy"] == pytest.approx(accuracy_score(labels, said.predicted))
    assert points["macro_f1"] == pytest.approx(f1_score(labels, said.predicted, average="macro"))


def test_the_champion_itself_is_not_worse_with_no_margin_and_not_better() -> None:
    labels = np.arange(300, dtype=np.int64) % 3
    one = answers(labels, 0.9, 0)
    for require, verdict in (("not_worse", "promote"), ("better", "reject")):
        rule = {"rule": "champion", "metric": "macro_f1", "require": require, "margin": 0.0}
        check = gate.judge(recipe(rule), THREE, labels, {"model": one, "champion": one})
        assert check["verdict"] == verdict
        assert "by more than 0" in check["checks"][1]["reason"]
        assert "e-3" not in check["checks"][1]["reason"]
