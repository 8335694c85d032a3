"""Rules on an opponent: is the model better than the baseline, and no worse than the champion?"""

import dataclasses
import math
from dataclasses import dataclass

from tasks.contracts.gate_verdict import ComparisonResult, Outcome
from tasks.gating.pairs import ALL_ROWS, MIN_ROWS, PairedPredictions, PairsBySlice
from tasks.problems.base import Problem
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.gate import BaselineRule, ChampionRule
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.statistics import comparison, intervals

MIN_DISCORDANT = 10  # the bootstrap is too sure if fewer rows tell two models apart
DIGITS = 6
NO_CHAMPION = "There is no champion here; promotion compares with the one in production."

OpponentRule = BaselineRule | ChampionRule


@dataclass(frozen=True)
class DiscordantRows:
    """Rows that only one of two models answers rightly."""

    only_model_right: int
    only_opponent_right: int

    @property
    def mcnemar(self) -> float:
        """The p-value of McNemar's exact test that the model is no better."""
        return comparison.mcnemar_p_value(self.only_model_right, self.only_opponent_right)

    @property
    def total(self) -> int:
        """How many rows tell the two models apart."""
        return self.only_model_right + self.only_opponent_right


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows. A positive difference means that the model is better."""

    slice_name: str  # `column=value`, or ALL_ROWS
    rows: int
    excluded_rows: int
    model: float  # its metric
    opponent: float
    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float  # of no difference beyond the rule's bound
    discordant: DiscordantRows | None  # None if answers are neither right nor wrong

    @property
    def is_finite(self) -> bool:
        """Whether the metric is a number for both models."""
        return all(math.isfinite(number) for number in (self.difference, self.low, self.high))


@dataclass(frozen=True)
class ErrorRate:
    """The error rate that a rule's p-values are held against."""

    alpha: float
    comparison_number: int  # which comparison with this champion it is


@dataclass(frozen=True)
class Power:
    """What this many rows can show, and how many would be needed."""

    detectable: float  # the smallest difference that is shown with a power of 80 %
    rows_needed: int | None  # to show this difference; None if no number of rows would


def compare_with_opponent(
    rule: OpponentRule, problem: Problem, pairs: PairsBySlice | None, config: Evaluate
) -> list[Comparison | ComparisonResult]:
    """Compare the model with the rule's opponent on all rows, or on each slice of the rule.

    Args:
        rule: The rule.
        problem: The model's problem.
        pairs: The rows by slice; None without such an opponent.
        config: How intervals are computed.

    Returns:
        A comparison for each slice, or at once the result of one that has too few rows.
        Nothing if the baseline is missing, so that the rule fails.
    """
    if pairs is None:
        is_champion = isinstance(rule, ChampionRule)
        return [build_result(rule, "skipped", NO_CHAMPION)] if is_champion else []
    findings: list[Comparison | ComparisonResult] = []
    for slice_name, pair in pairs.items():
        if not is_slice_of_rule(slice_name, rule):
            continue
        if len(pair.ids) < MIN_ROWS:
            findings.append(report_too_few_rows(rule, slice_name, pair))
        else:
            findings.append(compare_pair(rule, problem, slice_name, pair, config))
    return findings


def is_slice_of_rule(slice_name: str, rule: OpponentRule) -> bool:
    """Return whether the rule compares on this slice."""
    column = rule.by if isinstance(rule, ChampionRule) else None
    return slice_name.startswith(f"{column}=") if column else slice_name == ALL_ROWS


def compare_pair(
    rule: OpponentRule,
    problem: Problem,
    slice_name: str,
    pair: PairedPredictions,
    config: Evaluate,
) -> Comparison:
    """Compare two models on the same rows by the paired bootstrap of their difference."""
    sign = -1 if rule.metric in LOWER_IS_BETTER else 1
    model = problem.point_estimates(pair.targets, pair.model, [rule.metric])[rule.metric]
    opponent = problem.point_estimates(pair.targets, pair.opponent, [rule.metric])[rule.metric]
    difference = sign * (model - opponent)
    # One column for each model: [resamples, 2].
    samples = problem.bootstrap_metric(
        rule.metric, pair.targets, [pair.model, pair.opponent], config
    )
    differences = sign * (samples[:, 0] - samples[:, 1])
    low, high = intervals.percentile_bounds(differences, config.confidence)
    p_value = 1.0
    if math.isfinite(difference):
        p_value = comparison.bootstrap_p_value(difference, differences, rule.bound)
    by_bootstrap = Comparison(
        slice_name=slice_name,
        rows=len(pair.ids),
        excluded_rows=pair.excluded_rows,
        model=model,
        opponent=opponent,
        difference=difference,
        low=low,
        high=high,
        standard_error=float(differences.std()),
        p_value=p_value,
        discordant=count_discordant_rows(problem, pair),
    )
    return apply_exact_test(rule, by_bootstrap)


def count_discordant_rows(problem: Problem, pair: PairedPredictions) -> DiscordantRows | None:
    """Count the rows that only one of the two models answers rightly."""
    model_right = problem.is_correct(pair.targets, pair.model)
    opponent_right = problem.is_correct(pair.targets, pair.opponent)
    if model_right is None or opponent_right is None:
        return None
    return DiscordantRows(
        int((model_right & ~opponent_right).sum()), int((opponent_right & ~model_right).sum())
    )


def apply_exact_test(rule: OpponentRule, by_bootstrap: Comparison) -> Comparison:
    """Use an exact test where there is one, or where the bootstrap would be too sure.

    A better accuracy is tested by McNemar's exact test. That a model is no worse needs Tango's
    score test for paired shares to agree, on accuracies and if hardly any rows tell the models
    apart; its standard error is that of a model which is worse by the margin.
    """
    discordant = by_bootstrap.discordant
    if discordant is None:
        return by_bootstrap
    is_accuracy = rule.metric in ("accuracy", "subset_accuracy")
    if is_accuracy and rule.bound == 0:
        return dataclasses.replace(by_bootstrap, p_value=discordant.mcnemar)
    has_share_as_margin = rule.bound < 0 < rule.margin < 1
    if has_share_as_margin and (is_accuracy or discordant.total < MIN_DISCORDANT):
        score_test = comparison.noninferiority_p_value(
            discordant.only_model_right,
            discordant.only_opponent_right,
            by_bootstrap.rows,
            rule.margin,
        )
        error_at_margin = math.sqrt(rule.margin / by_bootstrap.rows)
        return dataclasses.replace(
            by_bootstrap,
            p_value=max(by_bootstrap.p_value, score_test),
            standard_error=max(by_bootstrap.standard_error, error_at_margin),
        )
    return by_bootstrap


def decide_comparison(
    rule: OpponentRule, compared: Comparison, p_adjusted: float, rate: ErrorRate
) -> ComparisonResult:
    """Hold a comparison's adjusted p-value against the error rate, and explain the outcome."""
    outcome = outcome_of(compared, rule.bound, p_adjusted, rate.alpha)
    reason = describe_comparison(rule, compared, p_adjusted, rate)
    excluded = describe_excluded_rows(compared.excluded_rows)
    if not compared.is_finite:
        problem = f"The value is not a number ({compared.difference}), so the rule fails: "
        reason = f"{problem}{reason}.{excluded}"
        return build_result(rule, outcome, reason).model_copy(update={"path": compared.slice_name})
    power = compute_power(compared, rule.bound, rate.alpha)
    reason += f"{describe_outcome(rule, compared, outcome, power)}.{excluded}"
    numbers: dict[str, float | int | str | None] = {
        "path": compared.slice_name,
        "rows": compared.rows,
        "value": round(compared.difference, DIGITS),
        "low": round(compared.low, DIGITS),
        "high": round(compared.high, DIGITS),
        "p_value": round(compared.p_value, DIGITS),
        "p_adjusted": round(p_adjusted, DIGITS),
        "alpha": round(rate.alpha, DIGITS),
        "detectable": round(power.detectable, DIGITS),
        "rows_needed": power.rows_needed,
    }
    if compared.discordant:
        numbers["only_model_right"] = compared.discordant.only_model_right
        numbers["only_opponent_right"] = compared.discordant.only_opponent_right
        numbers["mcnemar"] = round(compared.discordant.mcnemar, DIGITS)
    return build_result(rule, outcome, reason).model_copy(update=numbers)


def outcome_of(compared: Comparison, bound: float, p_adjusted: float, alpha: float) -> Outcome:
    """Decide: a number that is none fails, and so does an interval wholly below the bound."""
    if not compared.is_finite:
        return "fail"
    if p_adjusted <= alpha:
        return "pass"
    return "fail" if compared.high <= bound else "inconclusive"


def compute_power(compared: Comparison, bound: float, alpha: float) -> Power:
    """Return which difference these rows can show, and how many rows would show this one."""
    detectable = comparison.detectable_difference(compared.standard_error, alpha)
    needed = comparison.rows_needed(
        compared.rows, compared.difference - bound, compared.standard_error, alpha
    )
    return Power(bound + detectable, needed)


def build_result(rule: OpponentRule, outcome: Outcome, reason: str) -> ComparisonResult:
    """Build the result of a rule, without numbers."""
    return ComparisonResult(
        rule=rule.rule,
        name=rule.name,
        rule_reason=rule.reason,
        metric=rule.metric,
        margin=rule.margin,
        require=rule.require if isinstance(rule, ChampionRule) else None,
        by=rule.by if isinstance(rule, ChampionRule) else None,
        outcome=outcome,
        reason=reason,
    )


def report_too_few_rows(
    rule: OpponentRule, slice_name: str, pair: PairedPredictions
) -> ComparisonResult:
    """Build the result for a slice that has too few rows to compare."""
    reason = (
        f"{describe_slice(slice_name)}{len(pair.ids)} test rows are too few to compare with the "
        f"{rule.rule}: at least {MIN_ROWS} are needed.{describe_excluded_rows(pair.excluded_rows)}"
    )
    return build_result(rule, "inconclusive", reason).model_copy(update={"path": slice_name})


def describe_slice(slice_name: str) -> str:
    """Return the beginning of a sentence on a slice."""
    return f"On {slice_name}: " if slice_name else ""


def describe_excluded_rows(count: int) -> str:
    """Return a sentence on rows that the champion knows, if there are any."""
    if not count:
        return ""
    return (
        f" {count} test rows were left out, because the champion was trained on them or on rows "
        "like them."
    )


def describe_comparison(
    rule: OpponentRule, compared: Comparison, p_adjusted: float, rate: ErrorRate
) -> str:
    """Return the numbers of a comparison."""
    number = f" of comparison {rate.comparison_number} with it" if rule.rule == "champion" else ""
    values = (
        f"{describe_slice(compared.slice_name)}{rule.metric} {compared.model:.4f} against "
        f"{compared.opponent:.4f} of the {rule.rule}"
    )
    difference = (
        f"difference {compared.difference:+.4f}, interval {compared.low:+.4f} to "
        f"{compared.high:+.4f}"
    )
    return f"{values} ({difference}, p {p_adjusted:.4f} at error rate {rate.alpha:.2g}{number})"


def describe_outcome(
    rule: OpponentRule, compared: Comparison, outcome: Outcome, power: Power
) -> str:
    """Return what the rule demands, and what would decide a comparison that is inconclusive."""
    verb = "is" if outcome == "pass" else "must be"
    direction = "better" if rule.bound >= 0 else "no worse"
    demand = f" {verb} {direction} than the {rule.rule} by more than {rule.margin:g}"
    if outcome != "inconclusive":
        return demand
    demand += (
        f", which {compared.rows} test rows do not decide: with 80 % power they show differences "
        f"from {power.detectable:+.4f}"
    )
    if power.rows_needed is None:
        return f"{demand}, and this one points the other way"
    return (
        f"{demand}; for one of {compared.difference:+.4f} about {power.rows_needed:,} rows would "
        "be needed"
    )
