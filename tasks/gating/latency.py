"""Is a model slower than the one in production? Both answer the same rows in turn, in one process, so that whatever else the machine does slows both."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from tasks.modalities.base import Predictor
from tasks.recipe.gate import LatencyRule
from tasks.statistics.array_types import Floats

MAX_ROUNDS, CALLS_PER_ROUND = 10, 40
MAX_SECONDS, MIN_ROUNDS = 30.0, 4  # slow models get fewer rounds


def measure_latency(models: tuple[Predictor, Predictor], rows: Sequence[Any], batch: int) -> Floats:
    """The 95th percentile in seconds of each model's calls in each round, shape (rounds, 2). Who goes first alternates."""
    found: list[list[float]] = []
    begun = time.monotonic()
    while len(found) <= MIN_ROUNDS or (
        len(found) <= MAX_ROUNDS and time.monotonic() - begun < MAX_SECONDS
    ):
        seconds: tuple[list[float], list[float]] = ([], [])
        for call in range(CALLS_PER_ROUND):
            part = [rows[(call * batch + at) % len(rows)] for at in range(batch)]
            for which in (call % 2, 1 - call % 2):
                start = time.perf_counter()
                models[which](part)
                seconds[which].append(time.perf_counter() - start)
        found.append([float(np.quantile(one, 0.95)) for one in seconds])
    return np.array(found[1:])  # the first round warmed up


def check_latency(rule: LatencyRule, timed: Floats | None, confidence: float) -> dict[str, Any]:
    """The ratio with its interval over the rounds (Student's t on its logarithm) against what the rule allows."""
    if timed is None:
        return {
            "outcome": "none",
            "value": None,
            "low": None,
            "high": None,
            "reason": "There is no champion here to be timed beside; promotion does it.",
        }
    logs = np.log(timed[:, 0] / timed[:, 1])
    half = t.ppf((1 + confidence) / 2, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    value, low, high = (
        round(float(np.exp(logs.mean() + shift)), 4) for shift in (0.0, -half, half)
    )
    outcome = "pass" if high <= rule.ratio else "fail" if low > rule.ratio else "open"
    mine, other = (f"{1000 * time:.2f} ms" for time in np.median(timed, axis=0))
    told = f"p95 for {rule.batch} row(s) {mine} against {other} of the champion, {value:g} times it (interval {low:g} to {high:g}),"
    wanted = f"{'is' if outcome == 'pass' else 'must be'} at most {rule.ratio:g} times{': another measurement on a quieter machine may decide' if outcome == 'open' else ''}"
    return {
        "outcome": outcome,
        "value": value,
        "low": low,
        "high": high,
        "reason": f"{told} {wanted}.",
    }
