"""Metric names."""

from typing import TYPE_CHECKING, Literal

METRICS_BY_PROBLEM = {  # by problem
    "classification": (
        *(
            "accuracy",
            "macro_f1",
            "log_loss",
            "balanced_accuracy",
            "macro_precision",
            "weighted_f1",
            "mcc",
        ),
        *("roc_auc", "pr_auc"),  # each class against the rest; pr_auc is average precision
    ),
    "multilabel": (
        *(
            "micro_f1",
            "macro_f1",
            "subset_accuracy",
            "mean_average_precision",
            "log_loss",
            "hamming_loss",
        ),
        *("macro_precision", "macro_recall", "roc_auc"),
    ),
    "regression": ("rmse", "mae", "median_absolute_error", "r2"),
    "language": ("perplexity", "log_loss", "accuracy", "exact_match", "bits_per_byte"),
}
LOWER_IS_BETTER = {
    "log_loss",
    "hamming_loss",
    "rmse",
    "mae",
    "median_absolute_error",
    "perplexity",
    "bits_per_byte",
}
# Of an evaluation, one module each in tasks/evaluation, in the order of the report.
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

if TYPE_CHECKING:
    Metric = str
else:
    Metric = Literal[
        tuple(dict.fromkeys(name for names in METRICS_BY_PROBLEM.values() for name in names))
    ]  # of any problem


def is_lower_better(path: str) -> bool:
    """Of the number at a path of an evaluation, as far as its name says so."""
    return path.endswith(("_gap", "_error")) or path.rpartition(".")[2] in LOWER_IS_BETTER


MAIN_METRIC = {
    "multilabel": "micro_f1",
    "regression": "rmse",
    "language": "perplexity",
}  # a recipe's metric that names none; of classification it is in the sections
