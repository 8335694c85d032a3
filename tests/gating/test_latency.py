"""Latency as a ratio of two models that take turns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.gating import latency, verdict
from tasks.recipe.gate import LatencyRule
from tests.gating.helpers import FLOOR, Trained, copy_as_champion, with_gate


class RecordingModel:
    """A model that notes when it is called."""

    def __init__(self, number: int, calls: list[int]) -> None:
        self.number = number
        self.calls = calls

    def __call__(self, rows: Sequence[Any]) -> np.ndarray:
        self.calls.append(self.number)
        return np.zeros((len(rows), 2))


def test_two_models_take_turns_and_who_goes_first_alternates() -> None:
    calls: list[int] = []
    models: Any = (RecordingModel(0, calls), RecordingModel(1, calls))
    seconds = latency.measure_latency(models, ["row"] * 3, 2)
    assert calls[:8] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert seconds.shape == (latency.MAX_ROUNDS, 2)
    assert (seconds > 0).all()


@pytest.mark.parametrize(("ratio", "outcome"), [(1.2, "fail"), (4.0, "pass")])
def test_the_ratio_of_two_models_is_held_against_the_rule(ratio: float, outcome: str) -> None:
    seconds = np.array([[4.0, 2.0], [4.1, 2.0], [4.0, 2.1], [3.9, 2.0]])
    rule = LatencyRule(rule="latency", ratio=ratio, batch=2)
    check = latency.check_latency(rule, seconds, 0.95)
    assert check.outcome == outcome
    assert check.low is not None and check.value is not None and check.high is not None
    assert check.low <= check.value <= check.high
    assert f"at most {ratio:g} times" in check.reason


def test_a_ratio_near_the_limit_is_inconclusive() -> None:
    seconds = np.array([[1.0, 1.0], [2.0, 1.0], [1.5, 1.0]])
    check = latency.check_latency(LatencyRule(rule="latency", ratio=1.5), seconds, 0.95)
    assert check.outcome == "inconclusive"
    assert "another measurement on a quieter machine may decide" in check.reason


def test_latency_is_skipped_without_a_champion() -> None:
    assert latency.check_latency(LatencyRule(rule="latency"), None, 0.95).outcome == "skipped"


def test_latency_is_measured_beside_the_champion(trained: Trained, tmp_path: Path) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    rule = {"rule": "latency", "ratio": 20.0, "batch": 4}
    recipe = with_gate(recipe, {**FLOOR, "bound": 0.5}, rule)
    check = verdict.judge_model(recipe, paths, champion).checks[1]
    assert check.outcome == "pass"
    assert "p95 for 4 row(s)" in check.reason
    assert verdict.judge_model(recipe, paths, None).checks[1].outcome == "skipped"
