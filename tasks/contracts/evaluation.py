"""evaluation/metrics.json: what the exported model achieves on the test split."""

from typing import ClassVar

from tasks.contracts.base import Contract, JsonObject, Record


class Interval(Record):
    """A number of the test split with its confidence interval."""

    value: float
    low: float
    high: float


class ClassMetrics(Record):
    """How good the model is at one class, and how many test rows have it."""

    precision: Interval
    recall: Interval
    f1: Interval
    support: int


class Evaluation(Contract):
    """All that the gate and the model card know of a model's quality.

    Attributes:
        metrics: The problem's metrics, by name.
        baseline: The same of the baseline that was fitted on the same split.
        classes: Metrics by class, for problems that have classes.
        aspects: The numbers of each aspect, by its name; their shape is the aspect's own.
        rows: Rows of the test split.
        model_sha256: The hash of each of the model's files.
        test_sha256: The hash of the test split's file.
    """

    WRITTEN_BY: ClassVar[str] = "evaluate"

    metrics: dict[str, Interval]
    baseline: dict[str, Interval]
    classes: dict[str, ClassMetrics]
    aspects: dict[str, JsonObject]
    rows: int
    model_sha256: dict[str, str]
    test_sha256: str

    def numbers(self) -> JsonObject:
        """Return the numbers as nested dictionaries, as the gate's rules name them by path.

        Metrics and aspects lie at the top, so that `accuracy` and `slices.channel.email.accuracy`
        are paths; the baseline and the classes lie below their own names.
        """
        content = self.to_json()
        return {
            **content["metrics"],
            **content["aspects"],
            "baseline": content["baseline"],
            "classes": content["classes"],
            "rows": self.rows,
        }
