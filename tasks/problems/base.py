"""What all problems have in common."""

import contextlib
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.problems.batch import Batch
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.metric_names import METRICS_BY_PROBLEM
from tasks.recipe.train import Train
from tasks.statistics import bootstrap, class_metrics, intervals
from tasks.statistics.array_types import Flags, Floats

if TYPE_CHECKING:
    from torch import Tensor as Tensor
    from torch.nn import Module as Module
else:
    Tensor = Module = Any  # torch takes seconds to import
Targets = NDArray[Any]  # of shape (rows, …): what the labels become
Predictions = Any  # what is kept of a model's answers to compare it with others
UNDEFINED_METRIC_MESSAGE = (
    "train.metric: {} is not a number on the {} validation rows: choose another if they are all "
    "of one class, else lower train.learning_rate."
)
UNKNOWN_CLASS_MESSAGE = (
    "the rows have the class {!r}, which the model does not know: run `dvc repro`, so that both "
    "come from the same data."
)


class Problem:
    """A problem. Answers, `[rows, width]`, are probabilities or numbers in the target's unit."""

    NAME: str
    CLASSES_HEADING = "Classes"  # what the report calls them
    BOOTSTRAP_NAME = "bootstrap"
    WORST_ROWS_HEADING = (
        "Largest errors",
        "error",
        "true",
        "model said",
    )  # the heading of the report's table of mistakes, and its columns, from the last on
    ERROR_NAME = "wrong"  # what `errors` are
    IS_CALIBRATED = (
        False  # whether answers are probabilities, which a temperature makes more or less certain
    )

    def __init__(
        self, labels: Sequence[str], config: Train | None = None, temperature: float = 1.0
    ) -> None:
        self.labels = list(labels)
        self.config = config or Train()
        self.temperature = temperature  # divides the exported network's outputs

    @classmethod
    def from_training_data(cls, section: Train, table: pa.Table) -> Self:
        """The problem as these rows to train on have it."""
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS_BY_PROBLEM[self.NAME]

    @property
    def width(self) -> int:
        """How many numbers the network gives for a row."""
        return len(self.labels)

    def filter_known_labels(self, table: pa.Table) -> pa.Table:
        """The rows that a model which has learnt these labels can be measured on."""
        return table

    def targets(self, table: pa.Table) -> Targets:
        raise NotImplementedError

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """The batch's loss as a sum, and what it is to be divided by: rows, or tokens. A batch may be one part of a larger one."""
        raise NotImplementedError

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The answers during training, shape (rows, numbers)."""
        raise NotImplementedError

    def measure(self, targets: Targets, answers: Floats) -> dict[str, float]:
        """The metrics of all rows, by name, without those that these rows do not have. Raises Failure where that is the one to train for."""
        points = self.point_estimates(targets, self.compact_predictions(targets, answers))
        if math.isnan(points.get(self.config.metric, 0.0)):
            raise StageError(UNDEFINED_METRIC_MESSAGE.format(self.config.metric, len(targets)))
        return {metric: value for metric, value in points.items() if not math.isnan(value)}

    def fit_head(self, features: Floats, targets: Targets) -> tuple[Floats, Floats] | None:
        """The weights and biases of a linear layer to begin with, fitted on features; None where there is none."""
        return None

    @contextlib.contextmanager
    def prepare_for_export(self, network: Module) -> Iterator[None]:
        """While the network is exported, its outputs are what `answers` expects."""
        yield

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        """What the exported network gave as answers."""
        raise NotImplementedError

    def scale_by_temperature(self, answers: Floats, temperature: float) -> Floats:
        """Answers as a network would give them whose outputs are divided by the temperature."""
        raise NotImplementedError

    def extract_confidences(
        self, targets: Targets, answers: Floats
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Probabilities that were given, and whether what they are of is true, each of shape (rows, how many of a row)."""
        raise NotImplementedError

    def is_valid(self, answers: Floats) -> NDArray[np.bool_]:
        """Which rows' answers can be ones."""
        return np.asarray(np.isfinite(answers).all(axis=1))

    def build_linear_baseline(self, strength: float = 1.0) -> Any:
        """The baseline's estimator of scikit-learn; the greater the strength, the less it is held back."""
        raise NotImplementedError

    def build_tree_baseline(self) -> Any:
        """The same for tables that are large enough."""
        raise NotImplementedError

    def predict_with(self, model: Any, rows: Any) -> Floats:
        """The answers of such an estimator."""
        raise NotImplementedError

    def compact_predictions(self, targets: Targets, answers: Floats) -> Predictions:
        return np.round(answers, intervals.DIGITS)

    def align_labels(self, answers: Floats, labels: list[str]) -> Floats:
        """Answers of a model that has learnt other labels, as for these; one that it has not learnt it never gives."""
        return np.stack(
            [
                answers[:, labels.index(name)] if name in labels else np.zeros(len(answers))
                for name in self.labels
            ],
            1,
        )

    def take(self, said: Predictions, rows: NDArray[Any]) -> Predictions:
        """What was said of some of the rows."""
        return said[rows]

    def compute_metrics(
        self, metrics: Collection[str], targets: Targets, said: Predictions, weights: Floats
    ) -> dict[str, Floats]:
        """The metrics of the rows so often as `weights` (resamples, rows) has them, each of shape (resamples,); NaN where these rows do not have one."""
        raise NotImplementedError

    def point_estimates(
        self, targets: Targets, said: Predictions, metrics: Collection[str] = ()
    ) -> dict[str, float]:
        """These metrics of all rows, or all metrics."""
        found = self.compute_metrics(
            metrics or self.metrics, targets, said, np.ones((1, len(targets)))
        )
        return {metric: float(found[metric][0]) for metric in metrics or self.metrics}

    def bootstrap_weights(self, targets: Targets, section: Evaluate) -> Iterator[Floats]:
        return bootstrap.draw_weights(len(targets), section)

    def bootstrap_metrics(
        self,
        metrics: Collection[str],
        targets: Targets,
        models: list[Predictions],
        section: Evaluate,
    ) -> dict[str, Floats]:
        """The metrics of each model in each resample, each of shape (resamples, models)."""
        return bootstrap.join_metrics(
            metrics,
            (
                [self.compute_metrics(metrics, targets, said, weights) for said in models]
                for weights in self.bootstrap_weights(targets, section)
            ),
        )

    def bootstrap_metric(
        self, metric: str, targets: Targets, models: list[Predictions], section: Evaluate
    ) -> Floats:
        """The metric of each model in each resample, shape (resamples, models)."""
        return self.bootstrap_metrics([metric], targets, models, section)[metric]

    def metric_intervals(
        self,
        targets: Targets,
        said: Predictions,
        section: Evaluate,
        metrics: Collection[str] = (),
        drawn: Any = None,
    ) -> dict[str, dict[str, float]]:
        """These metrics, or all, as value, low and high. One that these rows do not have, such as roc_auc where all are of one class, is left out.

        The resamples are those that `drawn` made, where it is given.
        """
        points, drawn = (
            self.point_estimates(targets, said, metrics),
            drawn or self.bootstrap_metrics(metrics or self.metrics, targets, [said], section),
        )
        return {
            metric: intervals.percentile_interval(value, drawn[metric][:, 0], section)
            for metric, value in points.items()
            if not math.isnan(value)
        }

    def class_flags(self, targets: Targets, said: Predictions) -> tuple[Flags, Flags] | None:
        """Which classes each row has, and which it was given, where there are classes."""
        return None

    def row_errors(self, targets: Targets, said: Predictions) -> Floats:
        """How wrong each row's answer is, shape (rows,): where it is right or wrong, 0 or 1."""
        return 1.0 - np.asarray(self.is_correct(targets, said))

    def is_correct(self, targets: Targets, said: Predictions) -> NDArray[np.bool_] | None:
        """Which rows were answered rightly, where an answer is right or wrong."""
        return None

    def prediction_columns(
        self, targets: Targets, answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        """What predictions.parquet holds beside the id: all that the gate compares, for the model and for the baseline."""
        raise NotImplementedError

    def read_predictions(self, predictions: pa.Table) -> dict[str, Predictions]:
        """What was said by the model and by the baseline."""
        raise NotImplementedError

    def metrics_by_class(
        self, targets: Targets, said: Predictions, section: Evaluate
    ) -> dict[str, dict[str, Any]]:
        """Precision, recall and F1 with their intervals, and support, for each class."""
        flags = self.class_flags(targets, said)
        if flags is None:
            return {}
        actual, predicted = flags
        counts = class_metrics.count_outcomes(actual, predicted, np.ones((1, len(targets))))
        chunks = [
            class_metrics.count_outcomes(actual, predicted, weights)
            for weights in self.bootstrap_weights(targets, section)
        ]
        by_class: dict[str, dict[str, Any]] = {name: {} for name in self.labels}
        for metric, compute in class_metrics.PER_CLASS_METRICS.items():
            points = compute(counts)[0]  # [classes]
            samples = np.concatenate([compute(chunk) for chunk in chunks])  # [resamples, classes]
            for index, name in enumerate(self.labels):
                by_class[name][metric] = intervals.percentile_interval(
                    float(points[index]), samples[:, index], section
                )
        for index, name in enumerate(self.labels):
            by_class[name]["support"] = int(counts.support[0, index])
        return by_class

    def confusion_pairs(self, targets: Targets, said: Predictions) -> list[tuple[str, str]]:
        """The true and the predicted class of rows, for the confusion matrix."""
        return []

    def worst_rows(
        self, targets: Targets, answers: Floats, count: int
    ) -> list[tuple[int, str, str, float]]:
        """Rows that were answered worst, with what was true, what was said, and the number by which they are ordered."""
        return []
