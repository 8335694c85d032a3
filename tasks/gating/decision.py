"""Decision."""

from collections.abc import Mapping
from typing import Any

from tasks.gating import comparisons, latency, thresholds
from tasks.gating.comparisons import PairsByOpponent
from tasks.problems.base import Problem
from tasks.recipe.gate import BaselineRule, ChampionRule, LatencyRule, ThresholdRule
from tasks.recipe.recipe import Recipe
from tasks.statistics import comparison
from tasks.statistics.array_types import Floats

PROMOTE, REJECT, INCONCLUSIVE = "promote", "reject", "inconclusive"
MISSING_RESULT = {
    "outcome": "fail",
    "reason": "The rule gave no result, so nothing is known of it.",
}


def judge(
    recipe: Recipe,
    metrics: Any,
    problem: Problem,
    matches: PairsByOpponent,
    look: int = 1,
    timed: Mapping[int, Floats] | None = None,
) -> dict[str, Any]:
    """Every rule's outcome and the verdict: one failure rejects, one open question is inconclusive, and only all rules met promote.

    Rules on the same opponent share one error rate (Holm 1979), and so do all looks at the same champion.
    """
    found: list[list[dict[str, Any]]] = [
        [] for _ in recipe.gate
    ]  # of each rule all that it says: of several slices or numbers the worst counts
    alpha = (1 - recipe.evaluate.confidence) / 2
    for number, rule in enumerate(recipe.gate):
        if isinstance(rule, ThresholdRule):
            found[number] = [
                thresholds.check_threshold(rule, *one)
                for one in thresholds.resolve_path(metrics, rule.metric)
            ]
        elif isinstance(rule, LatencyRule):
            found[number] = [
                latency.check_latency(
                    rule, (timed or {}).get(rule.batch), recipe.evaluate.confidence
                )
            ]
    for kind, rate in (
        (BaselineRule, alpha),
        (ChampionRule, comparison.alpha_for_comparison(alpha, look)),
    ):
        family = [
            (at, check)
            for at, rule in enumerate(recipe.gate)
            if isinstance(rule, kind)
            for check in comparisons.compare_with_opponent(recipe, rule, problem, matches)
        ]
        adjusted = comparison.holm_p_values([check["p"] for _, check in family if "p" in check])
        for number, check in family:
            found[number].append(
                comparisons.decide_comparison(
                    recipe.gate[number], check, adjusted.pop(0), rate, look
                )
                if "p" in check
                else check
            )
    checks = []
    for rule, said in zip(recipe.gate, found, strict=True):
        check = {
            "metric": None,
            **rule.model_dump(exclude={"reason"}),
            "why": rule.reason,
            **thresholds.worst_result(said or [MISSING_RESULT]),
        }
        if check["outcome"] in ("fail", "open"):
            why = f" The rule is there because: {rule.reason}." if rule.reason else ""
            check["reason"] = (f"{rule.name}: " if rule.name else "") + check["reason"] + why
        checks.append(check)
    against = {
        outcome: " ".join(check["reason"] for check in checks if check["outcome"] == outcome)
        for outcome in ("fail", "open")
    }
    verdict = REJECT if against["fail"] else INCONCLUSIVE if against["open"] else PROMOTE
    reason = " ".join(filter(None, against.values())) or "Every rule is met."
    if (rows := metrics.get("rows", 0)) < comparisons.MIN_ROWS and verdict == PROMOTE:
        verdict, reason = (
            INCONCLUSIVE,
            f"Every rule is met, but on {rows} test rows, which decide nothing: at least {comparisons.MIN_ROWS} are needed.",
        )
    return {"verdict": verdict, "reason": reason, "checks": checks}
