"""Multilabel: any number of labels for each row, written `a|b` or as a list.

Answers are a probability for each label. A row is given the labels from 0.5 on.
"""

from collections.abc import Collection
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit

from tasks.core.errors import StageError
from tasks.problems import base, classification
from tasks.problems.base import (
    COLUMN_PREFIXES,
    Estimator,
    Features,
    Problem,
    Tensor,
    WorstRow,
    WorstRowsTable,
)
from tasks.problems.batch import Batch
from tasks.recipe.train import Train
from tasks.rows import label_values
from tasks.statistics import class_metrics
from tasks.statistics.array_types import Flags, Floats
from tasks.statistics.intervals import DIGITS

THRESHOLD = 0.5  # the probability from which on a row is given a label
NO_LABEL = "(none)"  # in the confusion matrix

LabelMatrix = NDArray[np.float32]  # [rows, labels], 1 if the row has the label


class MultilabelProblem(Problem):
    """Several labels for each row. Targets, answers and predictions are `[rows, labels]`."""

    NAME = "multilabel"
    CLASSES_HEADING = "Labels"
    WORST_ROWS = WorstRowsTable("Largest loss", "log-loss", "true labels", "predicted")
    IS_CALIBRATED = True

    @classmethod
    def from_training_data(cls, config: Train, table: pa.Table) -> Self:
        """Take the labels of the rows.

        Raises:
            StageError: There is at most one label.
        """
        labels = sorted(set[str]().union(*parse_label_sets(table)))
        if len(labels) < 2:
            label = labels[0] if labels else "no label"
            raise StageError(
                f"train: the rows have {label} alone: problem: multilabel needs at least two "
                "labels."
            )
        return cls(labels, config)

    def filter_known_labels(self, table: pa.Table) -> pa.Table:
        """Return the rows all of whose labels the model knows."""
        known = set(self.labels)
        is_known = [known.issuperset(names) for names in parse_label_sets(table)]
        return table.filter(pa.array(is_known, pa.bool_()))

    def targets(self, table: pa.Table) -> LabelMatrix:
        """Return which labels each row has, `[rows, labels]`."""
        label_sets = parse_label_sets(table)
        position = {name: index for index, name in enumerate(self.labels)}
        unknown = sorted(set[str]().union(*label_sets) - set(position))
        if unknown:
            raise StageError(base.describe_unknown_class(unknown[0]))
        matrix = np.zeros((len(label_sets), self.width), np.float32)
        for row, names in enumerate(label_sets):
            matrix[row, [position[name] for name in names]] = 1
        return matrix

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """Return the binary cross-entropies of all labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        total = binary_cross_entropy_with_logits(outputs.float(), targets, reduction="sum")
        return total, float(len(targets))

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the probabilities of the labels."""
        return outputs.float().sigmoid()

    def fit_head(self, features: Floats, targets: LabelMatrix) -> tuple[Floats, Floats] | None:
        """Fit a logistic regression for each label; None if all or no rows have a label."""
        regressions = self.build_linear_baseline(10).fit(features, targets).estimators_
        weights = []
        biases = []
        for regression in regressions:
            if not hasattr(regression, "coef_"):  # a constant
                return None
            weights.append(regression.coef_)
            biases.append(regression.intercept_)
        return np.concatenate(weights), np.concatenate(biases)

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        """Turn logits into probabilities."""
        return np.asarray(expit(outputs.astype(np.float64) / self.temperature))

    def scale_by_temperature(self, answers: Floats, temperature: float) -> Floats:
        """Return the probabilities of logits that are divided by a temperature."""
        return np.asarray(expit(logit(answers) / temperature))

    def extract_confidences(self, targets: LabelMatrix, answers: Floats) -> tuple[Floats, Flags]:
        """Return the probabilities of all labels."""
        return answers, targets > 0

    def build_linear_baseline(self, strength: float = 1.0) -> Estimator:
        """Return a logistic regression for each label."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.multiclass import OneVsRestClassifier

        return OneVsRestClassifier(LogisticRegression(C=strength, max_iter=300))

    def build_tree_baseline(self) -> Estimator:
        """Return gradient-boosted trees for each label."""
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.multiclass import OneVsRestClassifier

        return OneVsRestClassifier(HistGradientBoostingClassifier(random_state=0))

    def predict_with(self, estimator: Estimator, features: Features) -> Floats:
        """Return the baseline's probabilities."""
        return np.asarray(estimator.predict_proba(features))

    def class_flags(self, targets: LabelMatrix, predictions: Floats) -> tuple[Flags, Flags]:
        """Return the labels that rows have and are given, `[rows, labels]`."""
        return targets > 0, predictions >= THRESHOLD

    def compute_metrics(
        self, metrics: Collection[str], targets: LabelMatrix, predictions: Floats, weights: Floats
    ) -> dict[str, Floats]:
        """Compute metrics of weighted rows, each `[resamples]`."""
        actual, predicted = self.class_flags(targets, predictions)
        counts = class_metrics.count_outcomes(actual, predicted, weights)
        values = class_metrics.compute_count_metrics(metrics, counts)
        # These metrics are means of a number that each row has, [rows].
        numbers = {
            "log_loss": compute_row_losses(targets, predictions),
            "subset_accuracy": self.is_correct(targets, predictions),
            "hamming_loss": (actual != predicted).mean(1),
        }
        for metric in metrics:
            if metric in numbers:
                values[metric] = weights @ numbers[metric] / weights.sum(1)
        values |= class_metrics.compute_ranking_metrics(metrics, actual, predictions, weights)
        return values

    def is_correct(self, targets: LabelMatrix, predictions: Floats) -> Flags:
        """Tell which rows are given exactly their labels, `[rows]`."""
        actual, predicted = self.class_flags(targets, predictions)
        return np.asarray((predicted == actual).all(axis=1))

    def prediction_columns(
        self, targets: LabelMatrix, answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        """Return labels, predicted labels, loss and probabilities of each row."""
        columns = {"label": self.format_rows(targets)}
        for model, prefix in COLUMN_PREFIXES.items():
            predictions = self.compact_predictions(targets, answers[model])
            loss = compute_row_losses(targets, predictions).round(DIGITS)
            probabilities = classification.build_probability_column(predictions)
            columns[f"{prefix}predicted"] = self.format_rows(predictions)
            columns[f"{prefix}loss"] = pa.array(loss)
            columns[f"{prefix}probabilities"] = probabilities
        return columns

    def format_rows(self, probabilities: NDArray[Any]) -> pa.Array:
        """Write the labels of rows, `[rows, labels]`, as a column."""
        return pa.array([self.format_row(row) for row in probabilities], pa.string())

    def format_row(self, probabilities: NDArray[Any]) -> str:
        """Write the labels of a row, `[labels]`, as in the column `label`."""
        names = [self.labels[index] for index in np.flatnonzero(probabilities >= THRESHOLD)]
        return str(label_values.format_label(self.NAME, names))

    def read_predictions(self, table: pa.Table) -> dict[str, Floats]:
        """Return the probabilities of model and baseline."""
        return {
            model: np.array(table[f"{prefix}probabilities"].to_pylist())
            for model, prefix in COLUMN_PREFIXES.items()
        }

    def confusion_pairs(self, targets: LabelMatrix, predictions: Floats) -> list[tuple[str, str]]:
        """Return each row's labels: with themselves if found, else with `(none)`.

        A label that a row is wrongly given comes after `(none)`.
        """
        actual, predicted = self.class_flags(targets, predictions)
        pairs = []
        for row, column in np.argwhere(actual | predicted).tolist():
            name = self.labels[column]
            true_name = name if actual[row, column] else NO_LABEL
            predicted_name = name if predicted[row, column] else NO_LABEL
            pairs.append((true_name, predicted_name))
        return pairs

    def worst_rows(self, targets: LabelMatrix, answers: Floats, limit: int) -> list[WorstRow]:
        """Return the wrong rows with the largest losses."""
        loss = compute_row_losses(targets, answers)
        is_correct = self.is_correct(targets, answers)
        by_loss = np.argsort(-loss, kind="stable")
        worst = by_loss[~is_correct[by_loss]][:limit].tolist()
        return [
            WorstRow(
                row, self.format_row(targets[row]), self.format_row(answers[row]), float(loss[row])
            )
            for row in worst
        ]


def parse_label_sets(table: pa.Table) -> list[list[str]]:
    """Return the labels of each row.

    Raises:
        StageError: Some cannot be read.
    """
    labels = table["label"].to_pylist()
    return label_values.parse_labels(MultilabelProblem.NAME, labels, table["id"].to_pylist())


def compute_row_losses(targets: LabelMatrix, answers: Floats) -> Floats:
    """Return the mean over labels of −log p of what is true, `[rows]`."""
    probability_of_true = np.where(targets > 0, answers, 1 - answers)
    clipped = np.clip(probability_of_true, classification.MIN_PROBABILITY, 1.0)
    return np.asarray(-np.log(clipped).mean(axis=1))
