"""Regression: a number. The network learns it standardised; what is exported answers in the target's unit."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.problems.base import Module, Problem, Tensor
from tasks.problems.batch import Batch
from tasks.problems.classification import ClassificationProblem, ClassPredictions
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.train import Train
from tasks.rows import label_values
from tasks.statistics.array_types import Floats, Ints


class RegressionProblem(Problem):
    NAME = "regression"
    CLASSES_HEADING = "Fifths of the target"
    ERROR_NAME = "absolute error"
    mean, scale = 0.0, 1.0  # of the target in training

    @classmethod
    def from_training_data(cls, section: Train, table: pa.Table) -> Self:
        made = cls(["value"], section)
        targets = made.targets(table)
        with np.errstate(over="ignore", invalid="ignore"):
            made.mean, made.scale = float(targets.mean()), float(targets.std())
        if not np.isfinite(made.scale):
            worst = int(np.abs(targets).argmax())
            raise StageError(
                f"train: the target of the row {table['id'][worst]} is {targets[worst]:g}, which is too large to learn from: correct it, or reject the row."
            )
        if made.scale <= 1e-12 * abs(made.mean):
            raise StageError(
                f"train: all rows have the target {made.mean:g}: there is nothing to learn; add rows with others."
            )
        return made

    def targets(self, table: pa.Table) -> Floats:
        return np.array(
            label_values.parse_labels(
                self.NAME, table["label"].to_pylist(), table["id"].to_pylist()
            ),
            dtype=np.float64,
        )

    def loss(self, outputs: Tensor, batch: Batch, targets: Tensor) -> tuple[Tensor, float]:
        """The squared error in standard deviations of the target."""
        return (
            outputs.float()[:, 0] - ((targets - self.mean) / self.scale).float()
        ).square().sum(), float(len(targets))

    def predict_batch(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.double() * self.scale + self.mean

    def fit_head(self, features: Floats, targets: Floats) -> tuple[Floats, Floats] | None:
        fitted = self.build_linear_baseline(10).fit(features, (targets - self.mean) / self.scale)
        return fitted.coef_[None], np.array([fitted.intercept_])

    @contextlib.contextmanager
    def prepare_for_export(self, network: Module) -> Iterator[None]:
        with network.register_forward_hook(
            lambda _, inputs, outputs: outputs * self.scale + self.mean
        ):
            yield

    def decode_outputs(self, outputs: NDArray[Any]) -> Floats:
        return outputs.astype(np.float64)

    def build_linear_baseline(self, strength: float = 1.0) -> Any:
        from sklearn.linear_model import Ridge

        return Ridge(1 / strength)

    def build_tree_baseline(self) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        return HistGradientBoostingRegressor(random_state=0)

    def predict_with(self, model: Any, rows: Any) -> Floats:
        return np.asarray(model.predict(rows)[:, None])

    def compact_predictions(self, targets: Floats, answers: Floats) -> Floats:
        return answers[:, 0]

    def compute_metrics(
        self, metrics: Collection[str], targets: Floats, said: Floats, weights: Floats
    ) -> dict[str, Floats]:
        errors, rows, centred = said - targets, weights.sum(1), targets - targets.mean()
        spread = weights @ centred**2 - (weights @ centred) ** 2 / rows
        found: dict[str, Callable[[], Floats]] = {
            "rmse": lambda: np.sqrt(weights @ errors**2 / rows),
            "mae": lambda: weights @ np.abs(errors) / rows,
            "median_absolute_error": lambda: weighted_median(np.abs(errors), weights),
            "r2": lambda: (
                1 - np.divide(weights @ errors**2, spread, out=np.ones(len(rows)), where=spread > 0)
            ),
        }
        return {metric: found[metric]() for metric in metrics}

    def row_errors(self, targets: Floats, said: Floats) -> Floats:
        return np.abs(said - targets)

    def prediction_columns(
        self, targets: Floats, answers: dict[str, Floats]
    ) -> dict[str, pa.Array]:
        found = {"label": pa.array(targets)}
        for who, prefix in (("model", ""), ("baseline", "baseline_")):
            said = answers[who][:, 0]
            found |= {
                f"{prefix}predicted": pa.array(said),
                f"{prefix}loss": pa.array((said - targets) ** 2),
            }
        return found

    def read_predictions(self, predictions: pa.Table) -> dict[str, Floats]:
        return {
            "model": predictions["predicted"].to_numpy(),
            "baseline": predictions["baseline_predicted"].to_numpy(),
        }

    def metrics_by_class(
        self, targets: Floats, said: Floats, section: Evaluate
    ) -> dict[str, dict[str, Any]]:
        problem, true, guess = bin_into_fifths(targets, said)
        return problem.metrics_by_class(true, guess, section)

    def confusion_pairs(self, targets: Floats, said: Floats) -> list[tuple[str, str]]:
        problem, true, guess = bin_into_fifths(targets, said)
        return problem.confusion_pairs(true, guess)

    def worst_rows(
        self, targets: Floats, answers: Floats, count: int
    ) -> list[tuple[int, str, str, float]]:
        errors = np.abs(answers[:, 0] - targets)
        return [
            (row, f"{targets[row]:.6g}", f"{answers[row, 0]:.6g}", float(errors[row]))
            for row in np.argsort(-errors, kind="stable")[:count].tolist()
        ]


def weighted_median(numbers: Floats, weights: Floats) -> Floats:
    """Of the numbers so often as weights (whole ones) have them, shape (resamples,)."""
    order = np.argsort(numbers, kind="stable")
    upto = weights[:, order].cumsum(1)
    middle = [(upto > np.floor((upto[:, -1:] - odd) / 2)).argmax(1) for odd in (0, 1)]
    return np.asarray((numbers[order][middle[0]] + numbers[order][middle[1]]) / 2)


def bin_into_fifths(
    targets: Floats, said: Floats
) -> tuple[ClassificationProblem, Ints, ClassPredictions]:
    """The fifths of the target as classes, for a rough picture: which one is true, and in which one the answer lies."""
    names, true = label_values.split_into_quintiles(targets, targets)
    return (
        ClassificationProblem(names),
        true,
        ClassPredictions(
            label_values.split_into_quintiles(targets, said)[1], np.zeros(len(targets))
        ),
    )
