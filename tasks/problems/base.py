"""What all problems have in common: their interface, metrics with intervals, and predictions.

Answers are what a model gives for rows, `[rows, width]`: probabilities, or numbers in the target's
unit. Predictions are the part of the answers that metrics are computed from.
"""

import contextlib
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.problems.batch import Batch
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.metric_names import METRICS_BY_PROBLEM
from tasks.recipe.train import Train
from tasks.statistics import bootstrap, class_metrics, intervals
from tasks.statistics.array_types import Flags, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor as Tensor
    from torch.nn import Module as Module
else:
    Tensor = Module = Any  # torch takes seconds to import

Targets = NDArray[Any]  # [rows, …], the labels as numbers
Predictions = Any  # of one or more rows; its type depends on the problem
Estimator = Any  # of scikit-learn, which has no types
Features = Any  # what an estimator takes: a matrix, dense or sparse, or texts
ClassScores = dict[str, dict[str, float] | int]  # the intervals of metrics, and `support`

# Before the names of the columns of predictions.parquet.
COLUMN_PREFIXES = {"model": "", "baseline": "baseline_"}


class WorstRowsTable(NamedTuple):
    """The heading of the report's table of mistakes, and of its columns."""

    heading: str
    score: str
    actual: str
    predicted: str


class WorstRow(NamedTuple):
    """A row of the report's table of mistakes."""

    row: int
    actual: str
    predicted: str
    score: float  # the rows are ordered by it


class Problem:
    """A problem: how a model learns labels, what its answers mean, and how they are judged."""

    NAME: str
    CLASSES_HEADING = "Classes"  # of the report's table of classes
    BOOTSTRAP_NAME = "bootstrap"
    WORST_ROWS = WorstRowsTable("Largest errors", "error", "true", "predicted")
    ERROR_NAME = "wrong"  # what `row_errors` are
    IS_CALIBRATED = False  # whether answers are probabilities, which a temperature changes

    def __init__(
        self, labels: Sequence[str], config: Train | None = None, temperature: float = 1.0
    ) -> None:
        """Create the problem of these labels.

        Args:
            labels: The names of the network's outputs, in their order.
            config: The recipe's section `train`; its defaults for an exported model.
            temperature: Divides the outputs of the exported network.
        """
        self.labels = list(labels)
        self.config = config or Train()
        self.temperature = temperature

    @classmethod
    def from_training_data(cls, config: Train, table: pa.Table) -> Self:
        """Create the problem that the training rows have.

        Raises:
            StageError: Nothing can be learnt from these rows.
        """
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the problem's metrics, the main one first."""
        return METRICS_BY_PROBLEM[self.NAME]

    @property
    def width(self) -> int:
        """The number of outputs of the network for a row."""
        return len(self.labels)

    # Training.

    def filter_known_labels(self, table: pa.Table) -> pa.Table:
        """Return the rows whose labels the model knows."""
        return table

    def targets(self, table: pa.Table) -> Targets:
        """Return the labels as numbers, `[rows, …]`.

        Raises:
            StageError: The model does not know a label.
        """
        raise NotImplementedError

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """Return the sum of the batch's losses, and how many rows or tokens it is the sum of."""
        raise NotImplementedError

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the answers during training, `[rows, width]`."""
        raise NotImplementedError

    def measure(self, targets: Targets, answers: Floats) -> dict[str, float]:
        """Return the metrics of all rows; leave out those that these rows do not have.

        Raises:
            StageError: The metric to train for is one of these.
        """
        predictions = self.compact_predictions(targets, answers)
        metrics = self.point_estimates(targets, predictions)
        main_metric = self.config.metric
        if math.isnan(metrics.get(main_metric, 0.0)):
            raise StageError(describe_undefined_metric(main_metric, len(targets)))
        return drop_undefined(metrics)

    def fit_head(self, features: Floats, targets: Targets) -> tuple[Floats, Floats] | None:
        """Fit a linear layer to begin training with.

        Returns:
            Weights `[width, features]` and biases `[width]`; None if it cannot be fitted.
        """
        return None

    @property
    def output_unit(self) -> tuple[float, float]:
        """The factor and the number to add that turn the network's outputs into exported ones."""
        return 1.0, 0.0

    @contextlib.contextmanager
    def prepare_for_export(self, network: Module) -> Iterator[None]:
        """Have the network give what `decode_outputs` expects while it is exported."""
        yield

    # Answers.

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        """Turn the exported network's outputs into answers, both `[rows, width]`."""
        raise NotImplementedError

    def scale_by_temperature(self, answers: Floats, temperature: float) -> Floats:
        """Return the answers of a network whose outputs are divided by a temperature."""
        raise NotImplementedError

    def extract_confidences(self, targets: Targets, answers: Floats) -> tuple[Floats, Flags]:
        """Return probabilities, and whether their classes are true, `[rows, events]` each."""
        raise NotImplementedError

    def is_valid(self, answers: Floats) -> Flags:
        """Tell which rows have possible answers, `[rows]`."""
        return np.asarray(np.isfinite(answers).all(axis=1))

    def align_labels(self, answers: Floats, labels: list[str]) -> Floats:
        """Reorder the answers of a model of other labels; a label that it lacks gets 0.

        Args:
            answers: The other model's answers, `[rows, len(labels)]`.
            labels: The other model's labels.
        """
        columns = []
        for name in self.labels:
            is_known = name in labels
            columns.append(answers[:, labels.index(name)] if is_known else np.zeros(len(answers)))
        return np.stack(columns, 1)

    # The baseline.

    def build_linear_baseline(self, strength: float = 1.0) -> Estimator:
        """Return a linear estimator; a greater strength means less regularization."""
        raise NotImplementedError

    def build_tree_baseline(self) -> Estimator:
        """Return an estimator for tables with enough rows for trees."""
        raise NotImplementedError

    def predict_with(self, estimator: Estimator, features: Features) -> Floats:
        """Return the answers of a fitted baseline."""
        raise NotImplementedError

    # Predictions and their metrics.

    def compact_predictions(self, targets: Targets, answers: Floats) -> Predictions:
        """Return the part of the answers that metrics are computed from."""
        return np.round(answers, intervals.DIGITS)

    def take(self, predictions: Predictions, rows: Ints | Flags) -> Predictions:
        """Return the predictions of some rows."""
        return predictions[rows]

    def compute_metrics(
        self,
        metrics: Collection[str],
        targets: Targets,
        predictions: Predictions,
        weights: Floats,
    ) -> dict[str, Floats]:
        """Compute metrics of weighted rows.

        Args:
            metrics: Names of metrics.
            targets: What is true, `[rows, …]`.
            predictions: What the model answered.
            weights: How often each row counts, `[resamples, rows]`.

        Returns:
            Each metric as `[resamples]`; NaN if the rows do not have it.
        """
        raise NotImplementedError

    def point_estimates(
        self, targets: Targets, predictions: Predictions, metrics: Collection[str] = ()
    ) -> dict[str, float]:
        """Return some metrics of all rows; by default all metrics."""
        names = metrics or self.metrics
        once = np.ones((1, len(targets)))
        values = self.compute_metrics(names, targets, predictions, once)
        return {name: float(values[name][0]) for name in names}

    def bootstrap_weights(self, targets: Targets, config: Evaluate) -> Iterator[Floats]:
        """Yield how often each row is in each resample, chunks of `[resamples, rows]`."""
        return bootstrap.draw_weights(len(targets), config)

    def bootstrap_metrics(
        self,
        metrics: Collection[str],
        targets: Targets,
        models: list[Predictions],
        config: Evaluate,
    ) -> dict[str, Floats]:
        """Return metrics of models on the same resamples, each `[resamples, models]`."""
        chunks = []
        for weights in self.bootstrap_weights(targets, config):
            by_model = [
                self.compute_metrics(metrics, targets, predictions, weights)
                for predictions in models
            ]
            chunks.append(by_model)
        return bootstrap.join_metrics(metrics, chunks)

    def bootstrap_metric(
        self, metric: str, targets: Targets, models: list[Predictions], config: Evaluate
    ) -> Floats:
        """Return a metric of models on the same resamples, `[resamples, models]`."""
        return self.bootstrap_metrics([metric], targets, models, config)[metric]

    def metric_intervals(
        self,
        targets: Targets,
        predictions: Predictions,
        config: Evaluate,
        metrics: Collection[str] = (),
        samples: dict[str, Floats] | None = None,
    ) -> dict[str, dict[str, float]]:
        """Return metrics with their intervals; leave out those that these rows do not have.

        Args:
            targets: What is true, `[rows, …]`.
            predictions: What the model answered.
            config: The number of resamples, and the confidence of the intervals.
            metrics: Names of metrics; by default all.
            samples: The metrics of resamples, each `[resamples, 1]`, if they are known.
        """
        names = metrics or self.metrics
        if not samples:
            samples = self.bootstrap_metrics(names, targets, [predictions], config)
        points = drop_undefined(self.point_estimates(targets, predictions, names))
        return {
            name: intervals.percentile_interval(point, samples[name][:, 0], config)
            for name, point in points.items()
        }

    def class_flags(self, targets: Targets, predictions: Predictions) -> tuple[Flags, Flags] | None:
        """Return the classes that rows have and are given, `[rows, classes]`; None without."""
        return None

    def row_errors(self, targets: Targets, predictions: Predictions) -> Floats:
        """Return the error of each row, `[rows]`; 1 for a wrong answer, 0 for a right one."""
        return 1.0 - np.asarray(self.is_correct(targets, predictions))

    def is_correct(self, targets: Targets, predictions: Predictions) -> Flags | None:
        """Tell which rows are right, `[rows]`; None if answers are not right or wrong."""
        return None

    def metrics_by_class(
        self, targets: Targets, predictions: Predictions, config: Evaluate
    ) -> dict[str, ClassScores]:
        """Return each class's support, and its precision, recall and F1 with intervals."""
        flags = self.class_flags(targets, predictions)
        if flags is None:
            return {}
        actual, predicted = flags
        once = np.ones((1, len(targets)))
        counts = class_metrics.count_outcomes(actual, predicted, once)
        resampled = [
            class_metrics.count_outcomes(actual, predicted, weights)
            for weights in self.bootstrap_weights(targets, config)
        ]
        by_class: dict[str, ClassScores] = {name: {} for name in self.labels}
        for metric in class_metrics.PER_CLASS_METRICS:
            values = class_intervals(metric, counts, resampled, config)
            for name, value in zip(self.labels, values, strict=False):
                by_class[name][metric] = value
        for index, name in enumerate(self.labels):
            by_class[name]["support"] = int(counts.support[0, index])
        return by_class

    # Files and the report.

    def prediction_columns(
        self, targets: Targets, answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        """Return the columns of predictions.parquet beside the id.

        Args:
            targets: What is true, `[rows, …]`.
            answers: The answers of `model` and of `baseline`, `[rows, width]` each.
        """
        raise NotImplementedError

    def read_predictions(self, table: pa.Table) -> dict[str, Predictions]:
        """Return the predictions of `model` and `baseline` from predictions.parquet."""
        raise NotImplementedError

    def confusion_pairs(self, targets: Targets, predictions: Predictions) -> list[tuple[str, str]]:
        """Return true and predicted class of rows, for the confusion matrix."""
        return []

    def worst_rows(self, targets: Targets, answers: Floats, limit: int) -> list[WorstRow]:
        """Return the rows with the worst answers, the worst first."""
        return []


def class_intervals(
    metric: str,
    counts: class_metrics.Counts,
    resampled: Sequence[class_metrics.Counts],
    config: Evaluate,
) -> list[dict[str, float]]:
    """Return a metric of each class with its interval.

    Args:
        metric: A key of PER_CLASS_METRICS.
        counts: The counts of all rows, `[1, classes]`.
        resampled: The counts of chunks of resamples, `[resamples, classes]` each.
        config: The confidence of the intervals.
    """
    compute = class_metrics.PER_CLASS_METRICS[metric]
    points = compute(counts)[0]  # [classes]
    samples = np.concatenate([compute(chunk) for chunk in resampled])  # [resamples, classes]
    return [
        intervals.percentile_interval(float(point), column, config)
        for point, column in zip(points, samples.T, strict=True)
    ]


def drop_undefined(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics that have a value."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def describe_undefined_metric(metric: str, n_rows: int) -> str:
    """Say that the metric to train for has no value."""
    return (
        f"train.metric: {metric} is not a number on the {n_rows} validation rows: choose another "
        "if they are all of one class, else lower train.learning_rate."
    )


def describe_unknown_class(name: str) -> str:
    """Say that rows have a class that the model was not trained on."""
    return (
        f"the rows have the class {name!r}, which the model does not know: run `dvc repro`, so "
        "that both come from the same data."
    )
