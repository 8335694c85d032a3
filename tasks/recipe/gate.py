"""Gate."""

import math
from typing import Literal

from pydantic import (
    Field,
)

from tasks.recipe.base import Count, Section
from tasks.recipe.metric_names import Metric


class GateRule(Section):
    """What all rules of the gate share: a name, and why the rule is there. Both are shown where it is not met."""

    rule: str
    name: str | None = Field(None, min_length=1)
    reason: str | None = Field(None, min_length=1)


class ThresholdRule(GateRule):
    """A floor has the metric be at least `bound`, a ceiling at most. `metric` is any number of evaluation/metrics.json by its path, such as accuracy,
    classes.billing.f1 or slices.channel.*.accuracy, where `*` stands for each. It is held against `bound` itself, or with `on: interval` with the whole
    of its interval."""

    rule: Literal["floor", "ceiling"]
    metric: str = Field(pattern=r"^[^.]+(\.[^.]+)*$")
    bound: float = Field(allow_inf_nan=False)
    on: Literal["point", "interval"] = "point"


class BaselineRule(GateRule):
    """Better than the baseline fitted on the same split by more than `margin`."""

    rule: Literal["baseline"]
    metric: Metric = "macro_f1"
    margin: float = Field(0.0, ge=0)

    @property
    def bound(self) -> float:
        return self.margin


class ChampionRule(GateRule):
    """Against the model in production on the same rows: worse by less than `margin`, or with `require: better` better by more than it.

    With `by`, a column, so on the rows of each of its values.
    """

    rule: Literal["champion"]
    metric: Metric = "macro_f1"
    require: Literal["not_worse", "better"] = "not_worse"
    margin: float = Field(
        default_factory=lambda said: 0.0 if said.get("require") == "better" else 0.01, ge=0
    )
    by: str | None = None

    @property
    def bound(self) -> float:
        """What the difference must exceed. An equal model is not worse, so with a margin of 0 it is next to 0, not 0."""
        return self.margin if self.require == "better" else math.nextafter(-self.margin, -math.inf)


class LatencyRule(GateRule):
    """The 95th percentile of the time for `batch` rows may be at most `ratio` times that of the model in production, measured side by side at promotion."""

    rule: Literal["latency"]
    ratio: float = Field(1.5, gt=0, allow_inf_nan=False)
    batch: Count = 1


def format_rule(rule: GateRule) -> str:
    return ", ".join(
        f"{key}: {value}"
        for key, value in rule.model_dump(exclude={"name", "reason"}, exclude_none=True).items()
    )
