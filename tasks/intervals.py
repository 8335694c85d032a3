"""Metrics of classification and their bootstrap intervals.

Resampling is stratified by the true class (Efron and Tibshirani 1993, ch. 8): class sizes stay as they are, so no class vanishes from a resample.
Within a class the counts of predictions in a resample are multinomial, so a resample costs the size of the confusion matrix, not the number of rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CHUNK = 4_000_000  # numbers drawn at once


@dataclass(frozen=True)
class Scored:
    """What a model said about the test rows: predicted class and −log p(true class), each of shape (rows,)."""

    predicted: Ints
    loss: Floats


def scored(labels: Ints, probabilities: Floats) -> Scored:
    true = probabilities[np.arange(len(labels)), labels]
    return Scored(probabilities.argmax(1), -np.log(np.clip(true, 1e-15, 1.0)))


def confusion(labels: Ints, predicted: Ints, classes: int) -> Floats:
    """Counts, shape (true class, predicted class)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes).astype(np.float64)


def accuracy(matrix: Floats) -> Any:
    """Of one confusion matrix or a stack (…, classes, classes)."""
    return np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum((-2, -1))


def f1(matrix: Floats) -> Floats:
    """Per class, shape (…, classes). A class that is neither there nor predicted counts 0."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    total = matrix.sum(-1) + matrix.sum(-2)
    result: Floats = np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0)
    return result


def macro_f1(matrix: Floats) -> Any:
    """The mean of F1 over the classes that the rows have."""
    present = matrix.sum(-1) > 0
    return (f1(matrix) * present).sum(-1) / present.sum(-1)


def measure(labels: Ints, probabilities: Floats) -> dict[str, float]:
    said = scored(labels, probabilities)
    return points(labels, said, probabilities.shape[1])


def points(labels: Ints, said: Scored, classes: int) -> dict[str, float]:
    matrix = confusion(labels, said.predicted, classes)
    return {"accuracy": float(accuracy(matrix)), "macro_f1": float(macro_f1(matrix)), "log_loss": float(said.loss.mean())}


def resampled_confusions(labels: Ints, columns: list[Ints], classes: int, resamples: int, seed: int) -> list[Floats]:
    """For each model's predictions in `columns` the confusion matrices of the same resamples, shape (resamples, classes, classes)."""
    rng = np.random.default_rng(seed)
    matrices = [np.zeros((resamples, classes, classes)) for _ in columns]
    for label in np.unique(labels):
        rows = np.stack([column[labels == label] for column in columns], 1)
        seen, counts = np.unique(rows, axis=0, return_counts=True)
        drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=resamples)
        for model, matrix in enumerate(matrices):
            for column, predicted in enumerate(seen[:, model]):
                matrix[:, label, predicted] += drawn[:, column]
    return matrices


def resampled_means(labels: Ints, values: Floats, resamples: int, seed: int) -> Floats:
    """Means of `values` (rows, models) in stratified resamples of the rows, shape (resamples, models); the same resamples for all models."""
    rng = np.random.default_rng(seed)
    totals = np.zeros((resamples, values.shape[1]))
    for label in np.unique(labels):
        part = values[labels == label]
        size = max(1, CHUNK // len(part))
        for start in range(0, resamples, size):
            picks = rng.integers(0, len(part), (min(size, resamples - start), len(part)))
            for model in range(values.shape[1]):
                totals[start : start + len(picks), model] += part[picks, model].sum(1)
    result: Floats = totals / len(labels)
    return result


def samples(labels: Ints, models: list[Scored], classes: int, metric: str, resamples: int, seed: int) -> Floats:
    """The metric of each model in each resample, shape (resamples, models)."""
    if metric == "log_loss":
        return resampled_means(labels, np.stack([said.loss for said in models], 1), resamples, seed)
    matrices = resampled_confusions(labels, [said.predicted for said in models], classes, resamples, seed)
    of = {"accuracy": accuracy, "macro_f1": macro_f1}[metric]
    return np.stack([of(matrix) for matrix in matrices], 1)


def bounds(values: Floats, confidence: float) -> tuple[float, float]:
    """The percentile interval."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
