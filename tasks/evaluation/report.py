"""evaluation/report.html: all that an evaluation found, for people."""

import json
from collections import Counter
from dataclasses import dataclass

from tasks.contracts.base import JsonObject
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.model_info import ModelInfo
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.reports import html_pages
from tasks.storage.layout import ModelFolder

MAX_MISTAKES = 15


@dataclass(frozen=True)
class TrainingHistory:
    """How the training went.

    Attributes:
        records: One record for each epoch, as history.jsonl has it.
        metric: The metric that chose the weights.
        info: The model's model.json.
    """

    records: list[JsonObject]
    metric: str
    info: ModelInfo

    @classmethod
    def read(cls, model: ModelFolder) -> "TrainingHistory":
        """Read what training left beside the model."""
        info = ModelInfo.read(model.info)
        records = [json.loads(line) for line in model.history.read_text().splitlines()]
        return cls(records, str(info.train["metric"]), info)

    @property
    def metric_key(self) -> str:
        """The metric's key in a record: it is measured on the validation split."""
        return f"val_{self.metric}"

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights were kept: the best, of equal ones the last."""
        sign = -1 if self.metric in LOWER_IS_BETTER else 1
        best = max(
            self.records, key=lambda record: (sign * record[self.metric_key], record["epoch"])
        )
        return int(best["epoch"])


def render_report(
    context: EvaluationContext,
    evaluation: Evaluation,
    aspects: dict[str, AspectResult],
    history: TrainingHistory,
) -> str:
    """Return the page, which needs nothing from outside."""
    class_names, confusion = count_confusion(context, evaluation)
    return html_pages.render_evaluation(
        context.recipe.name,
        list_mistakes(context),
        problem=context.problem,
        rows=evaluation.rows,
        metrics={"model": evaluation.metrics, "baseline": evaluation.baseline},
        classes=evaluation.classes,
        class_names=class_names,
        confusion=confusion,
        aspects=aspects,
        continuations=context.continuations,
        compression_steps=history.info.export or [],
        training=history,
        is_tuned=context.recipe.tune is not None,
    )


def count_confusion(
    context: EvaluationContext, evaluation: Evaluation
) -> tuple[list[str], list[list[int]]]:
    """Return the classes, and how many rows of each (true) were given each (predicted)."""
    pairs = context.problem.confusion_pairs(context.targets, context.predictions)
    names = list(dict.fromkeys(evaluation.classes))
    for pair in pairs:
        names += [name for name in pair if name not in names]
    counts = Counter(pairs)
    matrix = [count_row(counts, actual, names) for actual in names]
    return names, matrix


def count_row(counts: Counter[tuple[str, str]], actual: str, names: list[str]) -> list[int]:
    """Return how many rows of one class were given each class."""
    return [counts[actual, predicted] for predicted in names]


def list_mistakes(context: EvaluationContext) -> list[JsonObject]:
    """Return the worst rows for the report."""
    worst = context.problem.worst_rows(context.targets, context.answers, MAX_MISTAKES)
    return [
        {
            "id": context.test["id"][row].as_py(),
            "actual": actual,
            "predicted": predicted,
            "number": number,
            "content": context.inputs[row],
        }
        for row, actual, predicted, number in worst
    ]
