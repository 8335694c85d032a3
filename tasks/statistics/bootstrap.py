"""Bootstrap."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.recipe.evaluate import Evaluate
from tasks.statistics.array_types import Floats, Ints
from tasks.statistics.class_metrics import Counts

MAX_NUMBERS_PER_CHUNK = 1_000_000  # numbers drawn at once


def draw_weights(
    rows: int, section: Evaluate, strata: NDArray[np.int64] | None = None
) -> Iterator[Floats]:
    """How often each row is in each resample, shape (some of the resamples, rows); as many rows of each stratum as there are, if strata are given."""
    rng = np.random.default_rng(section.seed)
    parts = (
        [np.arange(rows)]
        if strata is None
        else [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    )
    size = max(1, MAX_NUMBERS_PER_CHUNK // rows)
    for start in range(0, section.resamples, size):
        count = min(size, section.resamples - start)
        weights = np.zeros((rows, count))
        for part in parts:
            picks = rng.integers(0, len(part), (len(part), count)) * count + np.arange(count)
            weights[part] = np.bincount(picks.ravel(), minlength=len(part) * count).reshape(
                len(part), count
            )
        yield weights.T


def join_metrics(
    metrics: Collection[str], parts: Iterable[Sequence[dict[str, Floats]]]
) -> dict[str, Floats]:
    """The metrics of each model in each part of the resamples, as one array for each metric, shape (resamples, models)."""
    found = list(parts)
    return {
        metric: np.concatenate([np.stack([one[metric] for one in part], 1) for part in found])
        for metric in metrics
    }


def draw_class_counts(
    targets: Ints, columns: list[Ints], classes: int, section: Evaluate
) -> Iterator[list[Counts]]:
    """For some of the resamples at a time, for each model's predictions in `columns` the counts in the same resamples, each of shape (resamples, classes)."""
    rng = np.random.default_rng(section.seed)
    strata = []
    for label in np.unique(targets):
        seen, counts = np.unique(
            np.stack([column[targets == label] for column in columns], 1),
            axis=0,
            return_counts=True,
        )
        strata.append((label, seen, counts))
    size = max(1, MAX_NUMBERS_PER_CHUNK // classes**2)
    for start in range(0, section.resamples, size):
        count = min(size, section.resamples - start)
        models = [
            (np.zeros((count, classes)), np.zeros((count, classes)), np.zeros((count, classes)))
            for _ in columns
        ]
        for label, seen, counts in strata:
            drawn = rng.multinomial(counts.sum(), counts / counts.sum(), size=count)
            for (hits, there, given), predicted in zip(models, seen.T, strict=True):
                there[:, label] = counts.sum()
                hits[:, label] = drawn @ (predicted == label)
                given += drawn @ np.eye(classes)[predicted]
        yield models
