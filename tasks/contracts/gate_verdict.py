"""The gate's verdict on a model: `gate.json`, and the core of the evidence for a promotion."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.contracts.base import Contract, Record

Outcome = Literal["pass", "fail", "inconclusive", "skipped"]
Verdict = Literal["promote", "reject", "inconclusive"]
Number = int | float  # an integer stays one


class RuleResult(Record):
    """What one rule of the gate came to. Of several numbers or slices, the worst counts."""

    rule: str
    name: str | None = Field(description="The rule's name in the recipe.")
    rule_reason: str | None = Field(description="Why the recipe has the rule.")
    metric: str | None = Field(description="The metric that the rule is on, or its path.")
    outcome: Outcome
    reason: str = Field(description="The numbers behind the outcome, as a sentence.")
    path: str | None = Field(default=None, description="The number or slice that was worst.")
    value: Number | None = Field(default=None, description="None if it cannot be measured.")
    low: Number | None = Field(default=None, description="The lower end of its interval.")
    high: Number | None = Field(default=None, description="The upper end of its interval.")


class ThresholdResult(RuleResult):
    """A number of the evaluation against a floor or a ceiling."""

    rule: Literal["floor", "ceiling"]
    bound: float
    on: Literal["point", "interval"]
    shortfall: float | None = Field(
        default=None,
        description="How far the number is from meeting the bound; negative if it meets it.",
    )


class ComparisonResult(RuleResult):
    """The model against the baseline or the champion on the same rows.

    `value` is the difference; a positive one means that the model is better.
    """

    rule: Literal["baseline", "champion"]
    margin: float
    require: Literal["not_worse", "better"] | None = Field(description="Of a champion.")
    by: str | None = Field(description="The column whose values are compared one by one.")
    rows: int | None = Field(default=None, description="Test rows that were compared.")
    only_model_right: int | None = Field(default=None, description="Rows, if rows can be right.")
    only_opponent_right: int | None = Field(default=None, description="Rows.")
    mcnemar: float | None = Field(default=None, description="p-value of McNemar's exact test.")
    p_value: float | None = Field(default=None, description="Of no difference beyond the bound.")
    p_adjusted: float | None = Field(default=None, description="p-value after Holm's method.")
    alpha: float | None = Field(default=None, description="The error rate it is held against.")
    detectable: float | None = Field(
        default=None, description="The smallest difference that is shown with a power of 80 %."
    )
    rows_needed: int | None = Field(
        default=None, description="How many rows would show this difference; None if none would."
    )


class LatencyResult(RuleResult):
    """The model's time beside that of the champion; `value` is their ratio."""

    rule: Literal["latency"]
    ratio: float
    batch: int


AnyResult = Annotated[
    ThresholdResult | ComparisonResult | LatencyResult, Field(discriminator="rule")
]


class DisagreeingRows(Record):
    """Rows that only one of two models answers rightly."""

    rows: int
    examples: list[str] = Field(description="Some of their ids.")


class Disagreements(Record):
    """Rows on which only the model or only the champion is right."""

    only_model_right: DisagreeingRows
    only_champion_right: DisagreeingRows


class GateVerdict(Contract):
    """Whether a model may be promoted, and why. Without a champion its fields are None."""

    WRITTEN_BY: ClassVar[str] = "gate"

    verdict: Verdict
    reason: str
    checks: list[AnyResult] = Field(description="One for each rule of the recipe, in its order.")
    rows: int = Field(description="Test rows.")
    champion: str | None = Field(description="The champion's version.")
    comparison_number: int | None = Field(
        description="Which comparison with this champion it is, from 1."
    )
    excluded_rows: int | None = Field(
        description="Test rows that the champion was trained on, or that are like such rows."
    )
    disagreements: Disagreements | None = Field(
        description="None if answers are neither right nor wrong, or too few rows are left."
    )
    model_sha256: dict[str, str] = Field(description="The model's files.")
    test_sha256: str = Field(description="The test split.")
