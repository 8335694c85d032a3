"""The section `gate`: the rules by which a model is judged before it is promoted."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.recipe import metric_names
from tasks.recipe.base import Count, Section
from tasks.recipe.metric_names import Metric

# What makes two rules of a kind judge the same.
IDENTITY_KEYS = ("rule", "metric", "on", "by", "batch")


class GateRule(Section):
    """What all rules of the gate share."""

    rule: str
    name: str | None = Field(
        None, min_length=1, description="A name for the rule, shown if it is not met."
    )
    reason: str | None = Field(
        None, min_length=1, description="Why the rule is there, shown if it is not met."
    )


class ThresholdRule(GateRule):
    """A metric of the model must reach a floor, or stay below a ceiling."""

    rule: Literal["floor", "ceiling"] = Field(
        description="`floor`: the metric must be at least `bound`; `ceiling`: at most."
    )
    metric: str = Field(
        pattern=r"^[^.]+(\.[^.]+)*$",
        description="A number of evaluation/metrics.json by its path, such as accuracy, "
        "classes.billing.f1 or slices.channel.*.accuracy, where * stands for each name.",
    )
    bound: float = Field(description="The limit.")
    on: Literal["point", "interval"] = Field(
        "point",
        description="Whether the metric itself must keep the limit, or its whole confidence "
        "interval.",
    )


class BaselineRule(GateRule):
    """The model must be better than a simple one that was fitted on the same rows."""

    rule: Literal["baseline"]
    metric: Metric = Field(
        "macro_f1",
        description="The metric to compare; by default the main one of the problem: macro_f1, "
        "micro_f1, rmse or perplexity.",
    )
    margin: float = Field(
        0.0, ge=0, description="By how much the model must be better, in the metric's unit."
    )

    @property
    def bound(self) -> float:
        """What the difference must exceed."""
        return self.margin


def default_margin(values: dict[str, Any]) -> float:
    """Return 0 for `require: better`; not being worse allows for a hundredth."""
    return 0.0 if values.get("require") == "better" else 0.01


class ChampionRule(GateRule):
    """The model must not be worse than the one in production, on the same rows."""

    rule: Literal["champion"]
    metric: Metric = Field(
        "macro_f1",
        description="The metric to compare; by default the main one of the problem: macro_f1, "
        "micro_f1, rmse or perplexity.",
    )
    require: Literal["not_worse", "better"] = Field(
        "not_worse",
        description="`not_worse`: worse by less than `margin`; `better`: better by more than it.",
    )
    margin: float = Field(
        default_factory=default_margin,
        ge=0,
        description="The difference that counts, in the metric's unit; 0.01 by default, and 0 "
        "with `require: better`.",
    )
    by: str | None = Field(
        None,
        description="A column; the model is then compared on the rows of each of its values.",
    )

    @property
    def bound(self) -> float:
        """What the difference must exceed.

        An equal model is not worse, so with a margin of 0 this is the number below 0, not 0.
        """
        return self.margin if self.require == "better" else math.nextafter(-self.margin, -math.inf)


class LatencyRule(GateRule):
    """The model must be about as fast as the one in production, side by side at promotion."""

    rule: Literal["latency"]
    ratio: float = Field(
        1.5,
        gt=0,
        description="The most that the 95th percentile of the time may be, as a multiple of that "
        "of the model in production.",
    )
    batch: Count = Field(1, description="The number of rows that are predicted at once.")


Rule = ThresholdRule | BaselineRule | ChampionRule | LatencyRule
Rules = list[Annotated[Rule, Field(discriminator="rule")]]


def format_rule(rule: GateRule) -> str:
    """Write a rule's keys as in a recipe, without its name and reason."""
    keys = rule.model_dump(exclude={"name", "reason"}, exclude_none=True)
    return ", ".join(f"{key}: {value}" for key, value in keys.items())


def rules_errors(rules: Sequence[Rule], problem: str) -> Iterator[str]:
    """Describe what is wrong with the rules together."""
    thresholds = [rule for rule in rules if isinstance(rule, ThresholdRule)]
    yield from reversed_floor_errors(thresholds)
    yield from missing_threshold_errors(thresholds, problem)
    for pair in itertools.combinations(enumerate(rules), 2):
        yield from pair_errors(*pair)


def reversed_floor_errors(thresholds: Sequence[ThresholdRule]) -> Iterator[str]:
    """Describe floors of metrics of which less is better."""
    for rule in thresholds:
        if rule.rule == "floor" and metric_names.is_lower_better(rule.metric):
            yield (
                f"less of {rule.metric} is better, so a floor would ask for a bad model: write "
                f"{{rule: ceiling, metric: {rule.metric}, bound: …}}"
            )


def can_judge_alone(rule: ThresholdRule) -> bool:
    """Tell whether a rule demands quality, by which also the first model can be judged."""
    quality = {"classes", "slices", *metric_names.list_metrics()}
    if rule.metric.partition(".")[0] not in quality:
        return False
    return rule.rule == "floor" or metric_names.is_lower_better(rule.metric)


def missing_threshold_errors(thresholds: Sequence[ThresholdRule], problem: str) -> Iterator[str]:
    """Propose a rule by which the first model can be judged, if there is none."""
    if any(can_judge_alone(rule) for rule in thresholds):
        return
    metric = metric_names.MAIN_METRIC.get(problem, "macro_f1")
    kind = "ceiling" if metric_names.is_lower_better(metric) else "floor"
    yield (
        f"has no floor, so nothing could judge the first model: add "
        f"{{rule: {kind}, metric: {metric}, bound: …}}"
    )


def pair_errors(first: tuple[int, Rule], second: tuple[int, Rule]) -> Iterator[str]:
    """Describe what two rules, each with its position, say twice or against each other."""
    names = " and ".join(f"gate[{n}] ({format_rule(rule)})" for n, rule in (first, second))
    bounds = bounds_of_same_metric(first[1], second[1])
    if judge_the_same(first[1], second[1]):
        yield f"{names} judge the same: leave out one"
    elif bounds and bounds["floor"] > bounds["ceiling"]:
        yield (
            f"{names} contradict each other, as no number is both at least {bounds['floor']:g} "
            f"and at most {bounds['ceiling']:g}: change one"
        )


def judge_the_same(first: Rule, second: Rule) -> bool:
    """Tell whether two rules differ at most in their bounds, names and reasons."""
    pairs = [(getattr(first, key, None), getattr(second, key, None)) for key in IDENTITY_KEYS]
    return all(value == other for value, other in pairs)


def bounds_of_same_metric(first: Rule, second: Rule) -> dict[str, float]:
    """Return the bounds of a floor and a ceiling for one metric; nothing for other rules."""
    if not isinstance(first, ThresholdRule) or not isinstance(second, ThresholdRule):
        return {}
    if first.metric != second.metric or first.rule == second.rule:
        return {}
    return {first.rule: first.bound, second.rule: second.bound}
