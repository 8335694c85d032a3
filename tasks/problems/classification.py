"""Classification: one of several classes. Answers are probabilities.

Resampling is stratified by the true class (Efron and Tibshirani 1993, ch. 8): class sizes stay as they are, so no class vanishes from a resample.
Within a class the counts of predictions in a resample are multinomial, so a resample costs the size of the confusion matrix, not the number of rows.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import softmax

from tasks.core.errors import ConfigError, StageError
from tasks.core.suggest import suggest_nearest
from tasks.problems import base
from tasks.problems.base import Problem, Tensor
from tasks.problems.batch import Batch
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.train import Train
from tasks.statistics import bootstrap, class_metrics
from tasks.statistics.array_types import Flags, Floats, Ints
from tasks.statistics.intervals import DIGITS


class ClassPredictions(NamedTuple):
    """What a model said about the rows: predicted class and −log p(true class), each of shape (rows,), and if known all probabilities, (rows, classes)."""

    predicted: Ints
    loss: Floats
    answers: Floats | None = None


class ClassificationProblem(Problem):
    NAME = "classification"
    BOOTSTRAP_NAME = "stratified bootstrap"
    WORST_ROWS_HEADING = ("Wrong with most certainty", "probability", "true class", "model said")
    IS_CALIBRATED = True
    weights: Tensor | None = None  # of each class in the loss, 1 for the average row

    @classmethod
    def from_training_data(cls, section: Train, table: pa.Table) -> Self:
        made = cls(sorted(set(table["label"].to_pylist())), section)
        if made.width < 2:
            raise StageError(
                f"train: all rows have the label {made.labels[0]!r}: a classifier needs at least two classes."
            )
        made.weights = compute_class_weights(section, made.targets(table), made.labels)
        return made

    def filter_known_labels(self, table: pa.Table) -> pa.Table:
        return table.filter(
            pa.array([label in set(self.labels) for label in table["label"].to_pylist()])
        )

    def targets(self, table: pa.Table) -> Ints:
        return self.class_indices(table["label"].to_pylist())

    def class_indices(self, names: list[str]) -> Ints:
        position = {label: index for index, label in enumerate(self.labels)}
        unknown = sorted(set(names) - set(position))
        if unknown:
            raise StageError(base.UNKNOWN_CLASS_MESSAGE.format(unknown[0]))
        return np.array([position[name] for name in names], dtype=np.int64)

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """Cross-entropy, with label smoothing and weights of classes."""
        from torch.nn.functional import cross_entropy

        weights = None if self.weights is None else self.weights.to(outputs.device)
        total = cross_entropy(
            outputs.float(),
            targets,
            weights,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        return total, float(len(targets))

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.float().softmax(1)

    def fit_head(self, features: Floats, targets: Ints) -> tuple[Floats, Floats] | None:
        fitted = self.build_linear_baseline(10).fit(features, targets)
        return (fitted.coef_, fitted.intercept_) if len(fitted.classes_) == self.width > 2 else None

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        return np.asarray(softmax(outputs.astype(np.float64) / self.temperature, axis=1))

    def scale_by_temperature(self, answers: Floats, temperature: float) -> Floats:
        powers = (answers / answers.max(axis=1, keepdims=True)) ** (1 / temperature)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def extract_confidences(
        self, targets: Ints, answers: Floats
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Of the class that was given alone (Guo et al. 2017)."""
        return answers.max(axis=1, keepdims=True), (answers.argmax(1) == targets)[:, None]

    def is_valid(self, answers: Floats) -> NDArray[np.bool_]:
        return np.asarray(super().is_valid(answers) & (np.abs(answers.sum(1) - 1) <= 1e-6))

    def build_linear_baseline(self, strength: float = 1.0) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, max_iter=300)

    def build_tree_baseline(self) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(random_state=0)

    def predict_with(self, model: Any, rows: Any) -> Floats:
        found = model.predict_proba(rows)
        result = np.zeros((len(found), self.width))
        result[:, model.classes_] = found
        return result

    def compact_predictions(self, targets: Ints, answers: Floats) -> ClassPredictions:
        true = answers[np.arange(len(targets)), targets]
        return ClassPredictions(
            answers.argmax(1), -np.log(np.clip(true, 1e-15, 1.0)), answers.round(DIGITS)
        )

    def align_labels(self, answers: Floats, labels: list[str]) -> Floats:
        """A class that these do not know is never right: the best of them comes last."""
        other = [index for index, name in enumerate(labels) if name not in self.labels]
        return np.column_stack(
            [super().align_labels(answers, labels), answers[:, other].max(axis=1, initial=0)]
        )

    def take(self, said: ClassPredictions, rows: NDArray[Any]) -> ClassPredictions:
        return ClassPredictions(
            said.predicted[rows],
            said.loss[rows],
            None if said.answers is None else said.answers[rows],
        )

    def class_flags(self, targets: Ints, said: ClassPredictions) -> tuple[Flags, Flags]:
        """With a last class for what another model answers that these do not know."""
        classes = np.arange(self.width + 1)
        return targets[:, None] == classes, said.predicted[:, None] == classes

    def compute_metrics(
        self, metrics: Collection[str], targets: Ints, said: ClassPredictions, weights: Floats
    ) -> dict[str, Floats]:
        there, given = self.class_flags(targets, said)
        found = (
            class_metrics.compute_count_metrics(
                metrics, class_metrics.count_outcomes(there, given, weights)
            )
            if set(metrics) & set(class_metrics.COUNT_METRICS)
            else {}
        )
        loss = {"log_loss": weights @ said.loss / weights.sum(1)} if "log_loss" in metrics else {}
        return (
            found
            | loss
            | class_metrics.compute_ranking_metrics(
                metrics, there[:, : self.width], said.answers, weights
            )
        )

    def bootstrap_weights(self, targets: Ints, section: Evaluate) -> Iterator[Floats]:
        return bootstrap.draw_weights(len(targets), section, targets)

    def bootstrap_metrics(
        self,
        metrics: Collection[str],
        targets: Ints,
        models: list[ClassPredictions],
        section: Evaluate,
    ) -> dict[str, Floats]:
        counted, others = (
            [metric for metric in metrics if (metric in class_metrics.COUNT_METRICS) == kind]
            for kind in (True, False)
        )
        counts = bootstrap.draw_class_counts(
            targets, [said.predicted for said in models], self.width + 1, section
        )  # which draws nothing before it is asked
        found = (
            bootstrap.join_metrics(
                counted,
                (
                    [class_metrics.compute_count_metrics(counted, one) for one in part]
                    for part in counts
                ),
            )
            if counted
            else {}
        )
        return found | (
            super().bootstrap_metrics(others, targets, models, section) if others else {}
        )

    def is_correct(self, targets: Ints, said: ClassPredictions) -> NDArray[np.bool_]:
        return np.asarray(said.predicted == targets)

    def prediction_columns(self, targets: Ints, answers: dict[str, Floats]) -> dict[str, pa.Array]:
        names, found = np.array(self.labels, object), dict[str, pa.Array]()
        for who, prefix in (("model", ""), ("baseline", "baseline_")):
            said = self.compact_predictions(targets, answers[who])
            found |= {
                f"{prefix}predicted": pa.array(names[said.predicted], pa.string()),
                f"{prefix}loss": pa.array(said.loss.round(DIGITS)),
            }
            found[f"{prefix}probabilities"] = build_probability_column(answers[who])
        return {"label": pa.array(names[targets], pa.string()), **found}

    def read_predictions(self, predictions: pa.Table) -> dict[str, ClassPredictions]:
        found = {}
        for who, prefix in (("model", ""), ("baseline", "baseline_")):
            predicted, loss, shares = (
                predictions[f"{prefix}{part}"] for part in ("predicted", "loss", "probabilities")
            )
            found[who] = ClassPredictions(
                self.class_indices(predicted.to_pylist()),
                loss.to_numpy(),
                np.array(shares.to_pylist()),
            )
        return found

    def confusion_pairs(self, targets: Ints, said: ClassPredictions) -> list[tuple[str, str]]:
        return [
            (self.labels[true], self.labels[guess])
            for true, guess in zip(targets, said.predicted, strict=True)
        ]

    def worst_rows(
        self, targets: Ints, answers: Floats, count: int
    ) -> list[tuple[int, str, str, float]]:
        """The wrong answers of which the model was most certain."""
        wrong = np.flatnonzero(answers.argmax(1) != targets)
        ordered = wrong[np.argsort(-answers[wrong].max(1), kind="stable")][:count]
        return [
            (
                row,
                self.labels[targets[row]],
                self.labels[best := int(answers[row].argmax())],
                float(answers[row, best]),
            )
            for row in ordered.tolist()
        ]


def compute_class_weights(section: Train, targets: Ints, classes: list[str]) -> Tensor | None:
    """The weight of each class in the loss, such that the average row has 1; `balanced` gives every class the same total (King and Zeng 2001)."""
    import torch

    if section.class_weights == "none":
        return None
    counts = np.bincount(targets, minlength=len(classes))
    if isinstance(section.class_weights, str):
        weights = 1 / counts
    else:
        for name in section.class_weights:
            if name not in classes:
                raise ConfigError(
                    f"train.class_weights: {name!r} is not a class of the training rows{suggest_nearest(name, classes)}; they are {', '.join(classes)}."
                )
        weights = np.array([section.class_weights.get(name, 1.0) for name in classes])
    return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)


def build_probability_column(answers: Floats) -> pa.Array:
    return pa.array(answers.round(DIGITS).tolist(), pa.list_(pa.float64()))
