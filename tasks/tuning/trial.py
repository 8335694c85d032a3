"""One trial of a study: a model trained with its values, and measured.

It is measured on the validation split, or with `split.folds` by cross-validation on the training
rows.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import modalities
from tasks.contracts.epoch_record import EpochCallback, EpochRecord, History
from tasks.core.errors import StageError
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.recipe.tune import Tune
from tasks.storage import files, hashing
from tasks.storage.layout import SplitFolder
from tasks.training import distributed, fingerprint, loop
from tasks.training.labelled_rows import TrainingRows
from tasks.training.loop import TrainingHooks
from tasks.tuning import study

CurveReporter = Callable[[list[float]], None]
TablePair = tuple[pa.Table, pa.Table]  # rows to train on, rows to measure on


class TrialPruned(Exception):  # noqa: N818  not an error
    """The trial is behind the others and need not go on."""


def train_and_score(
    recipe: Recipe, split: SplitFolder, folder: Path, report: CurveReporter
) -> float:
    """Train with the values of the recipe's section `train`, and return the metric.

    Args:
        recipe: The recipe with the values to try.
        split: The rows.
        folder: Where the trial's checkpoints go; a trial that was cut off goes on from there.
        report: Called with the metric after each epoch so far, or with folds with the mean over
            the first 1, 2, … folds. It may raise TrialPruned.
    """
    if recipe.split.folds:
        return cross_validate(recipe, split, folder, report)
    metric = objective_metric(recipe)

    def report_epochs(history: History) -> None:
        report(compute_curve(history, recipe.train, metric))

    pair = load_train_val_pairs(recipe, split)[0]
    history = fit_model(recipe, pair, folder / "0", (report_epochs,))
    return compute_curve(history, recipe.train, metric)[-1]


def cross_validate(
    recipe: Recipe, split: SplitFolder, folder: Path, report: CurveReporter
) -> float:
    """Train once for each fold, and return the mean of the metric."""
    pairs = load_train_val_pairs(recipe, split)
    metric = objective_metric(recipe)
    scores: list[float] = []
    for number, pair in enumerate(pairs):
        history = fit_fold(recipe, pair, folder, number)
        scores.append(compute_curve(history, recipe.train, metric)[-1])
        if number + 1 < len(pairs):
            report([mean(scores[:count]) for count in range(1, len(scores) + 1)])
    return mean(scores)


def mean(scores: list[float]) -> float:
    """Return the mean, rounded as metrics are."""
    return round(sum(scores) / len(scores), 6)


def fit_fold(recipe: Recipe, pair: TablePair, folder: Path, number: int) -> History:
    """Train on the rows outside of a fold; the history is kept in a file, and read from there."""
    path = folder / f"{number}.json"
    if not path.is_file():
        history = fit_model(recipe, pair, folder / str(number))
        files.write_json(path, [record.flat() for record in history])
        shutil.rmtree(folder / str(number), ignore_errors=True)
    return [EpochRecord.read(record) for record in files.read_json(path)]


def fit_model(
    recipe: Recipe,
    pair: TablePair,
    checkpoints: Path,
    callbacks: tuple[EpochCallback, ...] = (),
) -> History:
    """Train a model and return its history."""
    rows = TrainingRows.from_tables(recipe, *pair)
    adapter = modalities.build_trainer(recipe, rows.train.inputs, rows.problem)
    hooks = TrainingHooks(callbacks=callbacks)
    return loop.fit(adapter, recipe.train, rows.encode(adapter), checkpoints, hooks)


def compute_curve(history: History, config: Train, metric: str) -> list[float]:
    """Return the metric of the weights that the loop would keep after each epoch.

    The loop keeps those that are best by `train.metric`; of equal ones the last.

    Raises:
        StageError: The metric cannot be computed on these validation rows.
    """
    if history and metric not in history[0].val:
        raise StageError(
            f"tune.metric: the validation rows have no {metric}, since they are all of one class: "
            "choose another metric, or raise split.val."
        )
    sign = -1 if config.metric in LOWER_IS_BETTER else 1
    curve: list[float] = []
    best: EpochRecord | None = None
    for record in history:
        value = sign * record.val[config.metric]
        if best is None or value >= sign * best.val[config.metric]:
            best = record
        curve.append(float(best.val[metric]))
    return curve


def objective_metric(recipe: Recipe) -> str:
    """Return the metric that the search improves."""
    return study.get_objective_metric(recipe, require_tune(recipe))


def require_tune(recipe: Recipe) -> Tune:
    """Return the recipe's section `tune`, which a recipe that is tuned has."""
    if recipe.tune is None:
        raise ValueError(f"the recipe {recipe.name} has no section tune")
    return recipe.tune


def load_train_val_pairs(recipe: Recipe, split: SplitFolder) -> list[TablePair]:
    """Return the rows to train and to measure on: train and val, or one pair for each fold.

    Raises:
        StageError: There are no rows to measure on.
    """
    train = files.read_table(split.train)
    if recipe.split.folds:
        return [
            split_at_fold(train, number, recipe.split.folds) for number in range(recipe.split.folds)
        ]
    val = files.read_table(split.val)
    if not val.num_rows:
        raise StageError(
            "tune: the validation split has no rows to measure on: raise split.val, or set "
            "split.folds, for example 5."
        )
    return [(train, val)]


def split_at_fold(train: pa.Table, number: int, n_folds: int) -> TablePair:
    """Return the training rows outside of a fold and those in it; StageError if none are."""
    fold = train["fold"]
    inside = train.filter(pc.equal(fold, number))
    if not inside.num_rows:
        raise StageError(
            f"split.folds: fold {number} of {n_folds} has none of the {train.num_rows} rows of "
            "train: lower the number of folds."
        )
    return train.filter(pc.not_equal(fold, number)), inside


def collect_fingerprint_inputs(recipe: Recipe, config: Tune, split: SplitFolder) -> list[Any]:
    """List what the trials of a study have in common, but for the code.

    That is data, recipe, device and threads; the number of trials and the time may grow.
    """
    base = recipe.train.base
    return [
        [
            config.model_copy(update={"trials": 1, "seconds": None}),
            recipe.train,
            recipe.split,
            recipe.columns,
            recipe.modality,
            recipe.problem,
        ],
        hashing.hash_folder(Path(base)) if base and Path(base).is_dir() else None,
        fingerprint.hash_training_data(split),
        distributed.hardware_fingerprint(),
    ]
