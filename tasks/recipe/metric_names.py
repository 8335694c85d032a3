"""The names of metrics and of the aspects of an evaluation, and which way each is better."""

from typing import TYPE_CHECKING, Literal

METRICS_BY_PROBLEM = {
    "classification": (
        "accuracy",
        "macro_f1",
        "log_loss",
        "balanced_accuracy",
        "macro_precision",
        "weighted_f1",
        "mcc",
        "roc_auc",  # each class against the rest
        "pr_auc",  # average precision, each class against the rest
    ),
    "multilabel": (
        "micro_f1",
        "macro_f1",
        "subset_accuracy",
        "mean_average_precision",
        "log_loss",
        "hamming_loss",
        "macro_precision",
        "macro_recall",
        "roc_auc",
    ),
    "regression": ("rmse", "mae", "median_absolute_error", "r2"),
    "language": ("perplexity", "log_loss", "accuracy", "exact_match", "bits_per_byte"),
}
# What a recipe means that names no metric. For classification the sections name it.
MAIN_METRIC = {"multilabel": "micro_f1", "regression": "rmse", "language": "perplexity"}
LOWER_IS_BETTER = {
    "log_loss",
    "hamming_loss",
    "rmse",
    "mae",
    "median_absolute_error",
    "perplexity",
    "bits_per_byte",
}
# Each is a module of tasks/evaluation; in the order of the report.
ASPECTS = (
    "calibration",
    "slices",
    "fairness",
    "robustness",
    "attack",
    "explanation",
    "privacy",
    "cost",
)


def list_metrics() -> tuple[str, ...]:
    """List the metrics of all problems, each once."""
    names: dict[str, None] = {}
    for metrics in METRICS_BY_PROBLEM.values():
        names |= dict.fromkeys(metrics)
    return tuple(names)


if TYPE_CHECKING:
    Metric = str
else:
    Metric = Literal[list_metrics()]


def is_lower_better(path: str) -> bool:
    """Tell whether less is better, by the name at the end of a path of an evaluation."""
    return path.endswith(("_gap", "_error")) or path.rpartition(".")[2] in LOWER_IS_BETTER
