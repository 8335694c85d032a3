"""Regression: predict a number.

The network learns the standardized target; the exported network answers in the target's unit.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.problems.base import (
    COLUMN_PREFIXES,
    ClassScores,
    Estimator,
    Features,
    Module,
    Problem,
    Tensor,
    WorstRow,
)
from tasks.problems.batch import Batch
from tasks.problems.classification import ClassificationProblem, ClassPredictions
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.train import Train
from tasks.rows import label_values
from tasks.statistics.array_types import Floats, Ints

LABELS = ["value"]
MIN_RELATIVE_SCALE = 1e-12  # of the target's standard deviation to its mean


class RegressionProblem(Problem):
    """A number for each row. Targets and predictions are `[rows]`, answers `[rows, 1]`."""

    NAME = "regression"
    CLASSES_HEADING = "Fifths of the target"
    ERROR_NAME = "absolute error"

    def __init__(
        self,
        labels: Sequence[str],
        config: Train | None = None,
        temperature: float = 1.0,
        mean: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """Create the problem of a target with this mean and standard deviation in training."""
        super().__init__(labels, config, temperature)
        self.mean = mean
        self.scale = scale

    @classmethod
    def from_training_data(cls, config: Train, table: pa.Table) -> Self:
        """Measure mean and standard deviation of the target.

        Raises:
            StageError: The targets are too large, or all the same.
        """
        targets = parse_targets(table)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(targets.mean())
            scale = float(targets.std())
        if not np.isfinite(scale):
            largest = int(np.abs(targets).argmax())
            raise StageError(
                f"train: the target of the row {table['id'][largest]} is {targets[largest]:g}, "
                "which is too large to learn from: correct it, or reject the row."
            )
        if scale <= MIN_RELATIVE_SCALE * abs(mean):
            raise StageError(
                f"train: all rows have the target {mean:g}: there is nothing to learn; "
                "add rows with others."
            )
        return cls(LABELS, config, mean=mean, scale=scale)

    def targets(self, table: pa.Table) -> Floats:
        """Return the numbers, `[rows]`."""
        return parse_targets(table)

    def standardize(self, targets: Any) -> Any:
        """Return the targets, an array or tensor, with mean 0 and standard deviation 1."""
        return (targets - self.mean) / self.scale

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """Return the squared errors, in standard deviations of the target."""
        errors = outputs.float()[:, 0] - self.standardize(targets).float()
        return errors.square().sum(), float(len(targets))

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the outputs in the target's unit."""
        return outputs.double() * self.scale + self.mean

    def fit_head(self, features: Floats, targets: Floats) -> tuple[Floats, Floats] | None:
        """Fit a ridge regression."""
        ridge = self.build_linear_baseline(10).fit(features, self.standardize(targets))
        return ridge.coef_[None], np.array([ridge.intercept_])

    @property
    def output_unit(self) -> tuple[float, float]:
        """The target's standard deviation and mean."""
        return self.scale, self.mean

    @contextlib.contextmanager
    def prepare_for_export(self, network: Module) -> Iterator[None]:
        """Have the network answer in the target's unit."""

        def rescale(_module: Module, _inputs: Any, outputs: Tensor) -> Tensor:
            return outputs * self.scale + self.mean

        with network.register_forward_hook(rescale):
            yield

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        """Return the outputs, which are in the target's unit."""
        return outputs.astype(np.float64)

    def build_linear_baseline(self, strength: float = 1.0) -> Estimator:
        """Return a ridge regression."""
        from sklearn.linear_model import Ridge

        return Ridge(1 / strength)

    def build_tree_baseline(self) -> Estimator:
        """Return gradient-boosted trees."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(random_state=0)

    def predict_with(self, estimator: Estimator, features: Features) -> Floats:
        """Return the baseline's numbers, `[rows, 1]`."""
        return np.asarray(estimator.predict(features)[:, None])

    def compact_predictions(self, targets: Floats, answers: Floats) -> Floats:
        """Return the predicted numbers, `[rows]`."""
        return answers[:, 0]

    def compute_metrics(
        self, metrics: Collection[str], targets: Floats, predictions: Floats, weights: Floats
    ) -> dict[str, Floats]:
        """Compute metrics of weighted rows, each `[resamples]`."""
        return {metric: METRICS[metric](targets, predictions, weights) for metric in metrics}

    def row_errors(self, targets: Floats, predictions: Floats) -> Floats:
        """Return the absolute errors."""
        return np.abs(predictions - targets)

    def prediction_columns(
        self, targets: Floats, answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        """Return target, prediction and squared error of each row."""
        columns = {"label": pa.array(targets)}
        for name, prefix in COLUMN_PREFIXES.items():
            predicted = answers[name][:, 0]
            columns[f"{prefix}predicted"] = pa.array(predicted)
            columns[f"{prefix}loss"] = pa.array((predicted - targets) ** 2)
        return columns

    def read_predictions(self, table: pa.Table) -> dict[str, Floats]:
        """Return the predicted numbers of model and baseline."""
        return {
            name: table[f"{prefix}predicted"].to_numpy() for name, prefix in COLUMN_PREFIXES.items()
        }

    def metrics_by_class(
        self, targets: Floats, predictions: Floats, config: Evaluate
    ) -> dict[str, ClassScores]:
        """Return the metrics of the fifths of the target."""
        fifths = bin_into_fifths(targets, predictions)
        return fifths.problem.metrics_by_class(fifths.targets, fifths.predictions, config)

    def confusion_pairs(self, targets: Floats, predictions: Floats) -> list[tuple[str, str]]:
        """Return the fifths of target and prediction of each row."""
        fifths = bin_into_fifths(targets, predictions)
        return fifths.problem.confusion_pairs(fifths.targets, fifths.predictions)

    def worst_rows(self, targets: Floats, answers: Floats, limit: int) -> list[WorstRow]:
        """Return the rows with the largest absolute errors."""
        predicted = answers[:, 0]
        errors = np.abs(predicted - targets)
        worst = np.argsort(-errors, kind="stable")[:limit].tolist()
        return [
            WorstRow(row, f"{targets[row]:.6g}", f"{predicted[row]:.6g}", float(errors[row]))
            for row in worst
        ]


def parse_targets(table: pa.Table) -> Floats:
    """Read the labels as numbers, `[rows]`.

    Raises:
        StageError: Some are no finite numbers.
    """
    labels = table["label"].to_pylist()
    numbers = label_values.parse_labels(RegressionProblem.NAME, labels, table["id"].to_pylist())
    return np.array(numbers, dtype=np.float64)


# Metrics: targets [rows], predictions [rows], weights [resamples, rows] → [resamples].


def root_mean_squared_error(targets: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Return the root of the mean squared error."""
    errors = predictions - targets
    return np.asarray(np.sqrt(weights @ errors**2 / weights.sum(1)))


def mean_absolute_error(targets: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Return the mean absolute error."""
    errors = predictions - targets
    return np.asarray(weights @ np.abs(errors) / weights.sum(1))


def median_absolute_error(targets: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Return the median absolute error."""
    return weighted_median(np.abs(predictions - targets), weights)


def r2_score(targets: Floats, predictions: Floats, weights: Floats) -> Floats:
    """Return the coefficient of determination; 0 if all targets are the same."""
    errors = predictions - targets
    n_rows = weights.sum(1)
    centred = targets - targets.mean()
    variation = weights @ centred**2 - (weights @ centred) ** 2 / n_rows
    unexplained = np.divide(
        weights @ errors**2, variation, out=np.ones(len(n_rows)), where=variation > 0
    )
    return np.asarray(1 - unexplained)


METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "rmse": root_mean_squared_error,
    "mae": mean_absolute_error,
    "median_absolute_error": median_absolute_error,
    "r2": r2_score,
}


def weighted_median(numbers: Floats, weights: Floats) -> Floats:
    """Return the median of numbers that are repeated.

    Args:
        numbers: The numbers, `[rows]`.
        weights: How often each number is repeated, whole numbers, `[resamples, rows]`.

    Returns:
        The medians, `[resamples]`.
    """
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    cumulated = weights[:, order].cumsum(1)  # [resamples, rows]
    total = cumulated[:, -1:]  # [resamples, 1]
    # The indices of the two middle numbers, which are the same if the total is odd.
    upper = (cumulated > np.floor(total / 2)).argmax(1)
    lower = (cumulated > np.floor((total - 1) / 2)).argmax(1)
    return np.asarray((ordered[upper] + ordered[lower]) / 2)


class Fifths(NamedTuple):
    """A regression as a classification into the fifths of the target."""

    problem: ClassificationProblem
    targets: Ints  # [rows], the fifth of each target
    predictions: ClassPredictions


def bin_into_fifths(targets: Floats, predictions: Floats) -> Fifths:
    """Take the fifths of the target as classes."""
    names, actual = label_values.split_into_quintiles(targets, targets)
    _, predicted = label_values.split_into_quintiles(targets, predictions)
    no_loss = np.zeros(len(targets))
    return Fifths(ClassificationProblem(names), actual, ClassPredictions(predicted, no_loss))
