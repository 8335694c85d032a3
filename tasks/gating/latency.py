"""Is a model slower than the one in production?

Both answer the same rows in turn, in one process, so that whatever else the machine does slows
both.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from tasks.contracts.gate_verdict import LatencyResult, Outcome
from tasks.modalities.base import Predictor
from tasks.recipe.gate import LatencyRule
from tasks.statistics.array_types import Floats

CALLS_PER_ROUND = 40
MAX_ROUNDS = 10
MIN_ROUNDS = 4  # a slow model gets fewer rounds
MAX_SECONDS = 30.0
QUANTILE = 0.95
DIGITS = 4
NO_CHAMPION = "There is no champion here to be timed beside; promotion does it."


def measure_latency(models: tuple[Predictor, Predictor], rows: Sequence[Any], batch: int) -> Floats:
    """Time two models on the same rows.

    Args:
        models: The model and the champion.
        rows: Rows to answer, taken in turn.
        batch: How many rows a call has.

    Returns:
        The 95th percentile of each model's calls in each round in seconds, `[rounds, 2]`.
    """
    start = time.monotonic()
    rounds = [time_round(models, rows, batch)]  # which warms up, and does not count
    while len(rounds) <= MIN_ROUNDS or (
        len(rounds) <= MAX_ROUNDS and time.monotonic() - start < MAX_SECONDS
    ):
        rounds.append(time_round(models, rows, batch))
    return np.array(rounds[1:])


def time_round(models: tuple[Predictor, Predictor], rows: Sequence[Any], batch: int) -> list[float]:
    """Return the 95th percentile of each model's calls. Who goes first alternates."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for call in range(CALLS_PER_ROUND):
        rows_of_call = [rows[(call * batch + offset) % len(rows)] for offset in range(batch)]
        for which in (call % 2, 1 - call % 2):
            start = time.perf_counter()
            models[which](rows_of_call)
            seconds[which].append(time.perf_counter() - start)
    return [float(np.quantile(of_model, QUANTILE)) for of_model in seconds]


def check_latency(rule: LatencyRule, seconds: Floats | None, confidence: float) -> LatencyResult:
    """Hold the ratio of two models' times against what the rule allows.

    Args:
        rule: The rule.
        seconds: Times of the model and the champion, `[rounds, 2]`; None without a champion.
        confidence: Of the ratio's interval over the rounds (Student's t on its logarithm).
    """
    if seconds is None:
        return build_result(rule, "skipped", NO_CHAMPION)
    logarithms = np.log(seconds[:, 0] / seconds[:, 1])  # [rounds]
    rounds = len(logarithms)
    quantile = t.ppf((1 + confidence) / 2, rounds - 1)
    half_width = quantile * logarithms.std(ddof=1) / rounds**0.5
    value, low, high = (
        round(float(np.exp(logarithms.mean() + shift)), DIGITS)
        for shift in (0.0, -half_width, half_width)
    )
    outcome: Outcome = "inconclusive"
    if high <= rule.ratio:
        outcome = "pass"
    elif low > rule.ratio:
        outcome = "fail"
    model, champion = (f"{1000 * median:.2f} ms" for median in np.median(seconds, axis=0))
    reason = (
        f"p95 for {rule.batch} row(s) {model} against {champion} of the champion, {value:g} times "
        f"it (interval {low:g} to {high:g}), {describe_outcome(rule, outcome)}."
    )
    return build_result(rule, outcome, reason).model_copy(
        update={"value": value, "low": low, "high": high}
    )


def build_result(rule: LatencyRule, outcome: Outcome, reason: str) -> LatencyResult:
    """Build the result of a rule, without numbers."""
    return LatencyResult(
        rule=rule.rule,
        name=rule.name,
        rule_reason=rule.reason,
        metric=None,
        ratio=rule.ratio,
        batch=rule.batch,
        outcome=outcome,
        reason=reason,
    )


def describe_outcome(rule: LatencyRule, outcome: Outcome) -> str:
    """Return what the rule demands, and what may help if the outcome is inconclusive."""
    verb = "is" if outcome == "pass" else "must be"
    demand = f"{verb} at most {rule.ratio:g} times"
    if outcome == "inconclusive":
        demand += ": another measurement on a quieter machine may decide"
    return demand
