"""Problems: what a label means, and so what a model learns, how it answers, and by what its answers are judged and compared.

Training, evaluation, the gate and serving ask the same object. A new problem is one module with a class `Problem`, and its metrics in tasks/recipe.py.
Metrics are computed of weighted rows, so that the interval of any of them comes from the bootstrap (Efron and Tibshirani 1993): a resample is how often
each row is in it, the same for all models that are compared.
"""

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.recipe import METRICS, Evaluate, Train

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float64]
Targets = NDArray[Any]  # of shape (rows, …): what the labels become
Said = Any  # what is kept of a model's answers to compare it with others
DIGITS = 6
CHUNK = 4_000_000  # numbers drawn at once
UNKNOWN = "the rows have the class {!r}, which the model does not know: run `dvc repro`, so that both come from the same data."


class Problem:
    """What problems have in common. Answers have the shape (rows, width): probabilities, or numbers in the unit of the target."""

    NAME: str
    CLASSES = "Classes"  # what the report calls them
    RESAMPLED = "bootstrap"
    WORST = ("Largest errors", "error")  # the heading of the report's table of mistakes, and its last column

    def __init__(self, labels: Sequence[str], section: Train | None = None) -> None:
        self.labels, self.section = list(labels), section or Train()

    @classmethod
    def fitted(cls, section: Train, table: pa.Table) -> Self:
        """The problem as these rows to train on have it."""
        raise NotImplementedError

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS[self.NAME]

    @property
    def width(self) -> int:
        """How many numbers the network gives for a row."""
        return len(self.labels)

    def known(self, table: pa.Table) -> pa.Table:
        """The rows that a model which has learnt these labels can be measured on."""
        return table

    def targets(self, table: pa.Table) -> Targets:
        raise NotImplementedError

    def loss(self, outputs: Any, inputs: "tuple[torch.Tensor, ...]", targets: "torch.Tensor") -> "tuple[torch.Tensor, float]":
        """The batch's loss as a sum, and what it is to be divided by: rows, or tokens. A batch may be one part of a larger one."""
        raise NotImplementedError

    def scores(self, outputs: Any, inputs: "tuple[torch.Tensor, ...]") -> "torch.Tensor":
        """The answers during training, shape (rows, numbers)."""
        raise NotImplementedError

    def measure(self, targets: Targets, answers: Floats) -> dict[str, float]:
        """The metrics of all rows, by name."""
        return self.points(targets, self.said(targets, answers))

    def head(self, features: Floats, targets: Targets) -> tuple[Floats, Floats] | None:
        """The weights and biases of a linear layer to begin with, fitted on features; None where there is none."""
        return None

    @contextlib.contextmanager
    def exporting(self, network: "torch.nn.Module") -> Iterator[None]:
        """While the network is exported, its outputs are what `answers` expects."""
        yield

    def answers(self, outputs: NDArray[Any]) -> Floats:
        """What the exported network gave as answers."""
        raise NotImplementedError

    def sound(self, answers: Floats) -> NDArray[np.bool_]:
        """Which rows' answers can be ones."""
        return np.asarray(np.isfinite(answers).all(axis=1))

    def linear(self, strength: float = 1.0) -> Any:
        """The baseline's estimator of scikit-learn; the greater the strength, the less it is held back."""
        raise NotImplementedError

    def trees(self) -> Any:
        """The same for tables that are large enough."""
        raise NotImplementedError

    def asked(self, model: Any, rows: Any) -> Floats:
        """The answers of such an estimator."""
        raise NotImplementedError

    def said(self, targets: Targets, answers: Floats) -> Said:
        return np.round(answers, DIGITS)

    def aligned(self, answers: Floats, labels: list[str]) -> Floats:
        """Answers of a model that has learnt other labels, as for these."""
        return answers

    def values(self, metric: str, targets: Targets, said: Said, weights: Floats) -> Floats:
        """The metric of the rows so often as `weights` (resamples, rows) has them, shape (resamples,)."""
        raise NotImplementedError

    def points(self, targets: Targets, said: Said) -> dict[str, float]:
        once = np.ones((1, len(targets)))
        return {metric: float(self.values(metric, targets, said, once)[0]) for metric in self.metrics}

    def samples(self, metric: str, targets: Targets, models: list[Said], section: Evaluate) -> Floats:
        """The metric of each model in each resample, shape (resamples, models)."""
        parts = [np.stack([self.values(metric, targets, said, weights) for said in models], 1) for weights in resampled(len(targets), section)]
        return np.concatenate(parts)

    def right(self, targets: Targets, said: Said) -> NDArray[np.bool_] | None:
        """Which rows were answered rightly, where an answer is right or wrong."""
        return None

    def columns(self, targets: Targets, answers: dict[str, Floats]) -> dict[str, pa.Array]:
        """What predictions.parquet holds beside the id: all that the gate compares, for the model and for the baseline."""
        raise NotImplementedError

    def read(self, predictions: pa.Table) -> dict[str, Said]:
        """What was said by the model and by the baseline."""
        raise NotImplementedError

    def by_class(self, targets: Targets, said: Said, section: Evaluate) -> dict[str, dict[str, Any]]:
        """Precision, recall, F1 with its interval, and support, for each class."""
        return {}

    def pairs(self, targets: Targets, said: Said) -> list[tuple[str, str]]:
        """The true and the predicted class of rows, for the confusion matrix."""
        return []

    def worst(self, targets: Targets, answers: Floats, count: int) -> list[tuple[int, str, str, float]]:
        """Rows that were answered worst, with what was true, what was said, and the number by which they are ordered."""
        return []


def module(name: str) -> type[Problem]:
    made: type[Problem] = importlib.import_module(f"tasks.problems.{name}").Problem
    return made


def of_model(about: dict[str, Any]) -> Problem:
    """The problem that a model solves, from its model.json."""
    return module(about.get("problem", "classification"))(about["labels"])


def resampled(rows: int, section: Evaluate) -> Iterator[Floats]:
    """How often each row is in each resample, shape (some of the resamples, rows)."""
    rng = np.random.default_rng(section.seed)
    size = max(1, CHUNK // rows)
    for start in range(0, section.resamples, size):
        yield np.stack([np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(min(size, section.resamples - start))]).astype(np.float64)


def class_table(names: list[str], hits: Floats, there: Floats, given: Floats, drawn: Floats, section: Evaluate) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 with its interval, and support, for each class, from how often it was right, true and said; `drawn` are resampled F1."""
    return {
        name: {
            "precision": round(float(hits[at] / given[at]), DIGITS) if given[at] else 0.0,
            "recall": round(float(hits[at] / there[at]), DIGITS) if there[at] else 0.0,
            "f1": interval(float(2 * hits[at] / (there[at] + given[at])) if there[at] + given[at] else 0.0, drawn[:, at], section),
            "support": int(there[at]),
        }
        for at, name in enumerate(names)
    }


def interval(point: float, drawn: Floats, section: Evaluate) -> dict[str, float]:
    """A metric as value, low and high: the percentile interval."""
    low, high = bounds(drawn, section.confidence)
    return {"value": round(point, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def bounds(values: Floats, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
