"""The bootstrap (Efron and Tibshirani 1993), drawn in chunks so that memory stays bounded."""

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np

from tasks.core.errors import StageError
from tasks.recipe.evaluate import Evaluate
from tasks.statistics.array_types import Floats, Ints
from tasks.statistics.class_metrics import Counts

MAX_NUMBERS_PER_CHUNK = 1_000_000  # numbers drawn at once


def chunk_sizes(resamples: int, numbers_per_resample: int) -> Iterator[int]:
    """Split the resamples into chunks of bounded size."""
    size = max(1, MAX_NUMBERS_PER_CHUNK // numbers_per_resample)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def draw_weights(rows: int, config: Evaluate, strata: Ints | None = None) -> Iterator[Floats]:
    """Draw how often each row is in each resample.

    Args:
        rows: The number of rows.
        config: The number of resamples, and the seed.
        strata: A number for each row, `[rows]`. Each resample then holds as many rows of a
            stratum as there are.

    Yields:
        Counts for some of the resamples, `[resamples, rows]`.

    Raises:
        StageError: There are no rows.
    """
    if rows == 0:
        raise StageError(
            "no rows to measure the model on, so its metrics have no intervals: the split is "
            "empty; raise split.test in the recipe, or add data."
        )
    rng = np.random.default_rng(config.seed)
    groups = group_rows(rows, strata)
    for count in chunk_sizes(config.resamples, rows):
        weights = np.zeros((rows, count))
        for group in groups:
            size = len(group)
            # Each draw is one number: position in the group * count + resample. [size, count]
            draws = rng.integers(0, size, (size, count)) * count + np.arange(count)
            counts = np.bincount(draws.ravel(), minlength=size * count)
            weights[group] = counts.reshape(size, count)
        yield weights.T


def group_rows(rows: int, strata: Ints | None) -> list[Ints]:
    """Return the rows of each stratum; without strata all rows are one."""
    if strata is None:
        return [np.arange(rows)]
    return [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]


def join_metrics(
    metrics: Collection[str], chunks: Iterable[Sequence[dict[str, Floats]]]
) -> dict[str, Floats]:
    """Join the metrics of chunks of resamples.

    Args:
        metrics: Names of metrics.
        chunks: For each chunk, each model's metrics, each `[resamples of the chunk]`.

    Returns:
        Each metric as `[resamples, models]`.
    """
    all_chunks = list(chunks)
    return {metric: join_metric(metric, all_chunks) for metric in metrics}


def join_metric(metric: str, chunks: list[Sequence[dict[str, Floats]]]) -> Floats:
    """Join one metric of chunks of resamples to `[resamples, models]`."""
    by_chunk = []
    for models in chunks:
        columns = [values[metric] for values in models]
        by_chunk.append(np.stack(columns, 1))
    return np.concatenate(by_chunk)


def draw_class_counts(
    targets: Ints, predictions: list[Ints], classes: int, config: Evaluate
) -> Iterator[list[Counts]]:
    """Draw the counts of each class in stratified resamples.

    Within a class, the counts of the models' joint predictions are multinomial, so a resample
    costs the size of the confusion matrix, not the number of rows.

    Args:
        targets: The true class of each row, `[rows]`.
        predictions: Each model's predicted class, each `[rows]`.
        classes: How many classes there are.
        config: The number of resamples, and the seed.

    Yields:
        For some of the resamples, each model's counts, `[resamples, classes]`.
    """
    rng = np.random.default_rng(config.seed)
    strata = []
    for label in np.unique(targets):
        predicted_by_models = np.stack([column[targets == label] for column in predictions], 1)
        # outcomes: [distinct outcomes, models]; rows_of_outcome: [distinct outcomes]
        outcomes, rows_of_outcome = np.unique(predicted_by_models, axis=0, return_counts=True)
        strata.append((label, outcomes, rows_of_outcome))
    for count in chunk_sizes(config.resamples, classes**2):
        by_model = [Counts.zeros(count, classes) for _ in predictions]
        for label, outcomes, rows_of_outcome in strata:
            rows = rows_of_outcome.sum()
            # How often each outcome is in each resample: [count, distinct outcomes].
            draws = rng.multinomial(rows, rows_of_outcome / rows, size=count)
            for counts, predicted in zip(by_model, outcomes.T, strict=True):
                counts.support[:, label] = rows
                counts.true_positives[:, label] = draws @ (predicted == label)
                np.add(counts.predicted, draws @ np.eye(classes)[predicted], out=counts.predicted)
        yield by_model
