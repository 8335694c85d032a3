"""Classification: one of several classes. Answers are probabilities.

Resampling is stratified by the true class (Efron and Tibshirani 1993, ch. 8): class sizes stay as
they are, so no class vanishes from a resample. Within a class the counts of predictions in a
resample are multinomial, so a resample costs the size of the confusion matrix, not the number of
rows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import softmax

from tasks.core.errors import ConfigError, StageError
from tasks.core.suggest import suggest_nearest
from tasks.problems import base
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
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.train import Train
from tasks.statistics import bootstrap, class_metrics
from tasks.statistics.array_types import Flags, Floats, Ints
from tasks.statistics.intervals import DIGITS

MIN_PROBABILITY = 1e-15  # so that a logarithm is finite
MAX_SUM_ERROR = 1e-6  # by which a row's probabilities may miss 1


class ClassPredictions(NamedTuple):
    """What a model predicts for rows."""

    predicted: Ints  # [rows], the class with the largest probability
    loss: Floats  # [rows], −log p of the true class
    probabilities: Floats | None = None  # [rows, classes]


class ClassificationProblem(Problem):
    """One class for each row. Targets are `[rows]`, answers `[rows, classes]`."""

    NAME = "classification"
    BOOTSTRAP_NAME = "stratified bootstrap"
    WORST_ROWS = WorstRowsTable(
        "Wrong with most certainty", "probability", "true class", "predicted"
    )
    IS_CALIBRATED = True

    def __init__(
        self,
        labels: Sequence[str],
        config: Train | None = None,
        temperature: float = 1.0,
        class_weights: Tensor | None = None,
    ) -> None:
        """Create the problem of these classes, with their weights in the loss, `[classes]`."""
        super().__init__(labels, config, temperature)
        self.class_weights = class_weights

    @classmethod
    def from_training_data(cls, config: Train, table: pa.Table) -> Self:
        """Take the classes of the rows, and weigh them as the recipe says.

        Raises:
            StageError: All rows have the same class.
            ConfigError: The recipe weighs a class that the rows lack.
        """
        names = table["label"].to_pylist()
        classes = sorted(set(names))
        if len(classes) < 2:
            raise StageError(
                f"train: all rows have the label {classes[0]!r}: a classifier needs at least "
                "two classes."
            )
        targets = index_classes(names, classes)
        class_weights = compute_class_weights(config, targets, classes)
        return cls(classes, config, class_weights=class_weights)

    def filter_known_labels(self, table: pa.Table) -> pa.Table:
        """Return the rows whose class the model knows."""
        known = set(self.labels)
        is_known = [label in known for label in table["label"].to_pylist()]
        return table.filter(pa.array(is_known, pa.bool_()))

    def targets(self, table: pa.Table) -> Ints:
        """Return the index of each row's class, `[rows]`."""
        return index_classes(table["label"].to_pylist(), self.labels)

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """Return the cross-entropies, with label smoothing and weights of classes."""
        from torch.nn.functional import cross_entropy

        weights = None if self.class_weights is None else self.class_weights.to(outputs.device)
        total = cross_entropy(
            outputs.float(),
            targets,
            weights,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return total, float(len(targets))

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the probabilities of the classes."""
        return outputs.float().softmax(1)

    def fit_head(self, features: Floats, targets: Ints) -> tuple[Floats, Floats] | None:
        """Fit a logistic regression; None for two classes, or if a class is missing."""
        regression = self.build_linear_baseline(10).fit(features, targets)
        has_all_classes = len(regression.classes_) == self.width
        if not has_all_classes or self.width <= 2:
            return None
        return regression.coef_, regression.intercept_

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        """Turn logits into probabilities."""
        return np.asarray(softmax(outputs.astype(np.float64) / self.temperature, axis=1))

    def scale_by_temperature(self, answers: Floats, temperature: float) -> Floats:
        """Return the probabilities of logits that are divided by a temperature."""
        powers = (answers / answers.max(axis=1, keepdims=True)) ** (1 / temperature)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def extract_confidences(self, targets: Ints, answers: Floats) -> tuple[Floats, Flags]:
        """Return the probability of the predicted class alone (Guo et al. 2017)."""
        is_right = answers.argmax(1) == targets
        return answers.max(axis=1, keepdims=True), is_right[:, None]

    def is_valid(self, answers: Floats) -> Flags:
        """Tell which rows have probabilities that sum to 1."""
        sums_to_1 = np.abs(answers.sum(1) - 1) <= MAX_SUM_ERROR
        return np.asarray(super().is_valid(answers) & sums_to_1)

    def align_labels(self, answers: Floats, labels: list[str]) -> Floats:
        """Reorder the answers of a model of other classes, `[rows, classes + 1]`.

        The last column is the best of the classes that only the other model knows; to answer with
        one of them is never right.
        """
        foreign = [index for index, name in enumerate(labels) if name not in self.labels]
        best_foreign = answers[:, foreign].max(axis=1, initial=0)
        return np.column_stack([super().align_labels(answers, labels), best_foreign])

    def build_linear_baseline(self, strength: float = 1.0) -> Estimator:
        """Return a logistic regression."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, max_iter=300)

    def build_tree_baseline(self) -> Estimator:
        """Return gradient-boosted trees."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=0)

    def predict_with(self, estimator: Estimator, features: Features) -> Floats:
        """Return the baseline's probabilities; 0 for classes that it was not fitted on."""
        probabilities = estimator.predict_proba(features)
        answers = np.zeros((len(probabilities), self.width))
        answers[:, estimator.classes_] = probabilities
        return answers

    def compact_predictions(self, targets: Ints, answers: Floats) -> ClassPredictions:
        """Return predicted classes, losses and rounded probabilities."""
        probability_of_true = answers[np.arange(len(targets)), targets]
        loss = -np.log(np.clip(probability_of_true, MIN_PROBABILITY, 1.0))
        return ClassPredictions(answers.argmax(1), loss, answers.round(DIGITS))

    def take(self, predictions: ClassPredictions, rows: Ints | Flags) -> ClassPredictions:
        """Return the predictions of some rows."""
        probabilities = predictions.probabilities
        return ClassPredictions(
            predictions.predicted[rows],
            predictions.loss[rows],
            None if probabilities is None else probabilities[rows],
        )

    def class_flags(self, targets: Ints, predictions: ClassPredictions) -> tuple[Flags, Flags]:
        """Return the classes that rows have and are given, `[rows, classes + 1]`.

        The last column is for classes that only another model knows.
        """
        classes = np.arange(self.width + 1)
        return targets[:, None] == classes, predictions.predicted[:, None] == classes

    def compute_metrics(
        self,
        metrics: Collection[str],
        targets: Ints,
        predictions: ClassPredictions,
        weights: Floats,
    ) -> dict[str, Floats]:
        """Compute metrics of weighted rows, each `[resamples]`."""
        actual, predicted = self.class_flags(targets, predictions)
        values: dict[str, Floats] = {}
        if any(metric in class_metrics.COUNT_METRICS for metric in metrics):
            counts = class_metrics.count_outcomes(actual, predicted, weights)
            values |= class_metrics.compute_count_metrics(metrics, counts)
        if "log_loss" in metrics:
            values["log_loss"] = weights @ predictions.loss / weights.sum(1)
        known = actual[:, : self.width]
        probabilities = predictions.probabilities
        values |= class_metrics.compute_ranking_metrics(metrics, known, probabilities, weights)
        return values

    def bootstrap_weights(self, targets: Ints, config: Evaluate) -> Iterator[Floats]:
        """Yield the weights of resamples that are stratified by the class."""
        return bootstrap.draw_weights(len(targets), config, targets)

    def bootstrap_metrics(
        self,
        metrics: Collection[str],
        targets: Ints,
        models: list[ClassPredictions],
        config: Evaluate,
    ) -> dict[str, Floats]:
        """Return metrics of models on the same resamples, each `[resamples, models]`.

        Metrics that need counts alone are drawn as counts, which is faster.
        """
        counted = [metric for metric in metrics if metric in class_metrics.COUNT_METRICS]
        others = [metric for metric in metrics if metric not in class_metrics.COUNT_METRICS]
        values: dict[str, Floats] = {}
        if counted:
            values |= self.bootstrap_count_metrics(counted, targets, models, config)
        if others:
            values |= super().bootstrap_metrics(others, targets, models, config)
        return values

    def bootstrap_count_metrics(
        self,
        metrics: Collection[str],
        targets: Ints,
        models: list[ClassPredictions],
        config: Evaluate,
    ) -> dict[str, Floats]:
        """Return metrics that need counts alone, each `[resamples, models]`."""
        predicted = [predictions.predicted for predictions in models]
        draws = bootstrap.draw_class_counts(targets, predicted, self.width + 1, config)
        chunks = []
        for counts_by_model in draws:
            values = [
                class_metrics.compute_count_metrics(metrics, part) for part in counts_by_model
            ]
            chunks.append(values)
        return bootstrap.join_metrics(metrics, chunks)

    def is_correct(self, targets: Ints, predictions: ClassPredictions) -> Flags:
        """Tell which rows are given their class, `[rows]`."""
        return np.asarray(predictions.predicted == targets)

    def prediction_columns(self, targets: Ints, answers: dict[str, Floats]) -> dict[str, pa.Array]:
        """Return class, predicted class, loss and probabilities of each row."""
        names = np.array(self.labels, object)
        columns = {"label": pa.array(names[targets], pa.string())}
        for model, prefix in COLUMN_PREFIXES.items():
            predictions = self.compact_predictions(targets, answers[model])
            predicted = names[predictions.predicted]
            columns[f"{prefix}predicted"] = pa.array(predicted, pa.string())
            columns[f"{prefix}loss"] = pa.array(predictions.loss.round(DIGITS))
            columns[f"{prefix}probabilities"] = build_probability_column(answers[model])
        return columns

    def read_predictions(self, table: pa.Table) -> dict[str, ClassPredictions]:
        """Return the predictions of model and baseline."""
        by_model = {}
        for model, prefix in COLUMN_PREFIXES.items():
            by_model[model] = ClassPredictions(
                index_classes(table[f"{prefix}predicted"].to_pylist(), self.labels),
                table[f"{prefix}loss"].to_numpy(),
                np.array(table[f"{prefix}probabilities"].to_pylist()),
            )
        return by_model

    def confusion_pairs(
        self, targets: Ints, predictions: ClassPredictions
    ) -> list[tuple[str, str]]:
        """Return true and predicted class of each row."""
        return [
            (self.labels[actual], self.labels[predicted])
            for actual, predicted in zip(targets, predictions.predicted, strict=True)
        ]

    def worst_rows(self, targets: Ints, answers: Floats, limit: int) -> list[WorstRow]:
        """Return the wrong answers with the largest probabilities."""
        predicted = answers.argmax(1)
        probability = answers.max(1)
        wrong = np.flatnonzero(predicted != targets)
        worst = wrong[np.argsort(-probability[wrong], kind="stable")][:limit]
        return [
            WorstRow(
                row,
                self.labels[targets[row]],
                self.labels[predicted[row]],
                float(probability[row]),
            )
            for row in worst.tolist()
        ]


def index_classes(names: Sequence[str], classes: Sequence[str]) -> Ints:
    """Return the index of each name among the classes, `[rows]`.

    Raises:
        StageError: A name is not a class.
    """
    position = {name: index for index, name in enumerate(classes)}
    unknown = sorted(set(names) - set(position))
    if unknown:
        raise StageError(base.describe_unknown_class(unknown[0]))
    return np.array([position[name] for name in names], dtype=np.int64)


def compute_class_weights(config: Train, targets: Ints, classes: Sequence[str]) -> Tensor | None:
    """Compute the weight of each class in the loss.

    The average row has the weight 1. `balanced` gives all classes the same total weight (King and
    Zeng 2001).

    Args:
        config: The recipe's section `train`.
        targets: The class of each training row, `[rows]`.
        classes: The names of the classes.

    Returns:
        The weights, `[classes]`; None if the recipe asks for none.

    Raises:
        ConfigError: The recipe names a class that the rows lack.
    """
    import torch

    if config.class_weights == "none":
        return None
    counts = np.bincount(targets, minlength=len(classes))
    if isinstance(config.class_weights, str):
        weights = 1 / counts
    else:
        check_class_names(config.class_weights, classes)
        weights = np.array([config.class_weights.get(name, 1.0) for name in classes])
    scaled = weights * counts.sum() / (weights * counts).sum()
    return torch.tensor(scaled, dtype=torch.float32)


def check_class_names(class_weights: Mapping[str, float], classes: Sequence[str]) -> None:
    """Refuse weights of classes that the training rows lack.

    Raises:
        ConfigError: There is such a class.
    """
    for name in class_weights:
        if name not in classes:
            raise ConfigError(
                f"train.class_weights: {name!r} is not a class of the training rows"
                f"{suggest_nearest(name, classes)}; they are {', '.join(classes)}."
            )


def build_probability_column(probabilities: Floats) -> pa.Array:
    """Return probabilities, `[rows, classes]`, as a column of lists."""
    return pa.array(probabilities.round(DIGITS).tolist(), pa.list_(pa.float64()))
