"""The CSV files behind `dvc plots`: confusion, F1 by class, reliability, training history."""

from collections.abc import Sequence
from typing import Any

from tasks.contracts.evaluation import Evaluation
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.report import TrainingHistory
from tasks.storage import files
from tasks.storage.layout import EvaluationFolder

Lines = list[Sequence[Any]]


def write_plots(
    folder: EvaluationFolder,
    context: EvaluationContext,
    evaluation: Evaluation,
    aspects: dict[str, AspectResult],
    history: TrainingHistory,
) -> None:
    """Write one CSV file for each plot of dvc.yaml."""
    plots = {
        "confusion": confusion_lines(context),
        "f1": f1_lines(evaluation),
        "reliability": reliability_lines(aspects),
        "history": history_lines(history),
    }
    for name, lines in plots.items():
        files.write_csv(folder.plots / f"{name}.csv", lines)


def confusion_lines(context: EvaluationContext) -> Lines:
    """Return the true and the predicted class of each row."""
    return [
        ("actual", "predicted"),
        *context.problem.confusion_pairs(context.targets, context.predictions),
    ]


def f1_lines(evaluation: Evaluation) -> Lines:
    """Return the F1 of each class."""
    classes = evaluation.classes.items()
    return [("class", "f1"), *((name, metrics.f1.value) for name, metrics in classes)]


def reliability_lines(aspects: dict[str, AspectResult]) -> Lines:
    """Return how often answers are right, by the probability given."""
    bins = aspects["calibration"].report["after"] if "calibration" in aspects else []
    return [("probability", "right", "answers"), *bins]


def history_lines(history: TrainingHistory) -> Lines:
    """Return the records of the epochs, and the metric that chose the weights as a last column."""
    names = list(history.records[0])
    lines: Lines = [[*names, "metric"]]
    for record in history.records:
        cells = [record.get(name) for name in names]
        lines.append([*cells, record[history.metric_key]])
    return lines
