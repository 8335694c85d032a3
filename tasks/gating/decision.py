"""The gate's decision: what each rule comes to, and from all of them the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from tasks.contracts.gate_verdict import AnyResult, ComparisonResult, Outcome, Verdict
from tasks.gating import comparisons, latency, pairs, thresholds
from tasks.gating.comparisons import Comparison, ErrorRate, OpponentRule
from tasks.gating.pairs import PairsBySlice
from tasks.problems.base import Problem
from tasks.recipe.gate import BaselineRule, ChampionRule, LatencyRule, ThresholdRule
from tasks.recipe.recipe import Recipe
from tasks.statistics import comparison
from tasks.statistics.array_types import Floats

NO_RESULT = "The rule produced no result and therefore fails."


@dataclass(frozen=True)
class GateInputs:
    """What the rules are held against."""

    metrics: dict[str, JsonValue]  # the evaluation
    problem: Problem
    pairs: Mapping[str, PairsBySlice]  # by opponent, `baseline` or `champion`
    comparison_number: int = 1  # which comparison with this champion it is
    # By number of rows in a call, the seconds of each round, [rounds, 2].
    latencies: Mapping[int, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The verdict and what it rests on."""

    verdict: Verdict
    reason: str
    checks: list[AnyResult]


ResultsByRule = list[list[AnyResult]]  # of each rule, one for each of its numbers or slices


def judge(recipe: Recipe, inputs: GateInputs) -> Decision:
    """Judge a model by the recipe's rules.

    One rule that fails rejects the model. One that is inconclusive leaves the verdict
    inconclusive. The model is promoted only if all rules are met, on enough rows.
    """
    results = check_numbers(recipe, inputs)
    alpha = (1 - recipe.evaluate.confidence) / 2
    champion_alpha = comparison.alpha_for_comparison(alpha, inputs.comparison_number)
    baseline_rate = ErrorRate(alpha, inputs.comparison_number)
    champion_rate = ErrorRate(champion_alpha, inputs.comparison_number)
    add_comparisons(results, recipe, inputs, BaselineRule, baseline_rate)
    add_comparisons(results, recipe, inputs, ChampionRule, champion_rate)
    checks = []
    for rule, of_rule in zip(recipe.gate, results, strict=True):
        if not of_rule and isinstance(rule, BaselineRule | ChampionRule):
            of_rule.append(comparisons.build_result(rule, "fail", NO_RESULT))
        checks.append(explain_rule(thresholds.worst_result(of_rule)))
    return decide(checks, inputs.metrics)


def check_numbers(recipe: Recipe, inputs: GateInputs) -> ResultsByRule:
    """Check the rules that need no opponent's answers: floors, ceilings and latencies."""
    results: ResultsByRule = []
    for rule in recipe.gate:
        of_rule: list[AnyResult] = []
        if isinstance(rule, ThresholdRule):
            entries = thresholds.find_entries(inputs.metrics, rule.metric)
            of_rule.extend(thresholds.check_threshold(rule, entry) for entry in entries)
        elif isinstance(rule, LatencyRule):
            seconds = inputs.latencies.get(rule.batch)
            of_rule.append(latency.check_latency(rule, seconds, recipe.evaluate.confidence))
        results.append(of_rule)
    return results


def add_comparisons(
    results: ResultsByRule,
    recipe: Recipe,
    inputs: GateInputs,
    kind: type[OpponentRule],
    rate: ErrorRate,
) -> None:
    """Add the results of all rules on one opponent, which share one error rate (Holm 1979)."""
    findings: list[tuple[int, OpponentRule, Comparison | ComparisonResult]] = []
    for index, rule in enumerate(recipe.gate):
        if isinstance(rule, kind):
            of_rule = comparisons.compare_with_opponent(
                rule, inputs.problem, inputs.pairs.get(rule.rule), recipe.evaluate
            )
            findings.extend((index, rule, finding) for finding in of_rule)
    p_values = [finding.p_value for _, _, finding in findings if isinstance(finding, Comparison)]
    adjusted = iter(comparison.holm_p_values(p_values))
    for index, rule, finding in findings:
        if isinstance(finding, Comparison):
            p_adjusted = next(adjusted)
            result = comparisons.decide_comparison(rule, finding, p_adjusted, rate)
        else:
            result = finding
        results[index].append(result)


def explain_rule(result: AnyResult) -> AnyResult:
    """Add the rule's name and why the recipe has it, if it is not met."""
    if result.outcome not in thresholds.UNMET_OUTCOMES:
        return result
    name = f"{result.name}: " if result.name else ""
    purpose = (
        f" The recipe has this rule because: {result.rule_reason}." if result.rule_reason else ""
    )
    return result.model_copy(update={"reason": f"{name}{result.reason}{purpose}"})


def decide(checks: list[AnyResult], metrics: Mapping[str, JsonValue]) -> Decision:
    """Return the verdict on checked rules."""
    failures = reasons_of(checks, "fail")
    open_questions = reasons_of(checks, "inconclusive")
    unmet = " ".join([*failures, *open_questions])
    if failures:
        return Decision("reject", unmet, checks)
    if open_questions:
        return Decision("inconclusive", unmet, checks)
    rows = metrics.get("rows", 0)
    if not isinstance(rows, int) or rows < pairs.MIN_ROWS:
        reason = (
            f"Every rule is met, but on {rows} test rows, which decide nothing: at least "
            f"{pairs.MIN_ROWS} are needed."
        )
        return Decision("inconclusive", reason, checks)
    return Decision("promote", "Every rule is met.", checks)


def reasons_of(checks: Sequence[AnyResult], outcome: Outcome) -> list[str]:
    """Return the reasons of the checks with an outcome."""
    return [check.reason for check in checks if check.outcome == outcome]
