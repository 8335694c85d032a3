"""One trial of a study: a model trained with its values and measured on the validation split, or by cross-validation on the training rows.

Cross-validation takes the folds that `split.folds` has made, in the column `fold`.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import modalities, problems
from tasks.contracts.epoch_record import EpochCallback, EpochRecord, History
from tasks.core.errors import StageError
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.storage import files, hashing
from tasks.training import distributed, loop

CurveReporter = Callable[[list[float]], None]


class TrialPruned(Exception):
    """The trial is behind the others and need not go on."""


def train_and_score(recipe: Recipe, source: Path, folder: Path, report: CurveReporter) -> float:
    """The metric that the values in the recipe's train section achieve; the mean over folds where there are. Takes up from `folder` where it was cut off.

    `report` is given what was achieved until each epoch (with folds: the mean until each fold) and may raise Behind.
    """
    assert recipe.tune
    parts = load_train_val_pairs(recipe, source)
    metric = recipe.tune.metric or recipe.train.metric
    if len(parts) == 1:
        history = fit_model(
            recipe,
            *parts[0],
            folder / "0",
            lambda history: report(compute_curve(history, recipe.train, metric)),
        )
        return compute_curve(history, recipe.train, metric)[-1]
    found: list[float] = []
    for number, (train, val) in enumerate(parts):
        kept = folder / f"{number}.json"
        if not kept.is_file():
            history = fit_model(recipe, train, val, folder / str(number), loop.no_callback)
            files.write_json(kept, [record.flat() for record in history])
            shutil.rmtree(folder / str(number), ignore_errors=True)
        history = [EpochRecord.read(record) for record in files.read_json(kept)]
        found.append(compute_curve(history, recipe.train, metric)[-1])
        if number + 1 < len(parts):
            report([round(sum(found[:last]) / last, 6) for last in range(1, len(found) + 1)])
    return round(sum(found) / len(found), 6)


def fit_model(
    recipe: Recipe, train: pa.Table, val: pa.Table, checkpoints: Path, watch: EpochCallback
) -> History:
    """The history of a training."""
    problem = problems.problem_class(recipe.problem).from_training_data(recipe.train, train)
    val = problem.filter_known_labels(val)
    rows = modalities.extract_inputs(recipe, train)
    adapter = modalities.build_trainer(recipe, rows, problem)
    data = (
        adapter.encode(rows),
        problem.targets(train),
        adapter.encode(modalities.extract_inputs(recipe, val)),
        problem.targets(val),
    )
    return loop.fit(adapter, recipe.train, *data, checkpoints, train["id"].to_pylist(), watch)


def compute_curve(history: History, train: Train, metric: str) -> list[float]:
    """After each epoch the metric of the weights that the loop would keep, which are the best by train.metric."""
    if history and metric not in history[0].val:
        raise StageError(
            f"tune.metric: the validation rows have no {metric}, since they are all of one class: choose another metric, or raise split.val."
        )
    sign = -1 if train.metric in LOWER_IS_BETTER else 1
    best = [
        max(reversed(history[:last]), key=lambda record: sign * record.val[train.metric])
        for last in range(1, len(history) + 1)
    ]
    return [float(record.val[metric]) for record in best]


def load_train_val_pairs(recipe: Recipe, source: Path) -> list[tuple[pa.Table, pa.Table]]:
    """What to train and to measure on: train and val, or for each fold the rows of train outside and in it."""
    train = files.read_table(source / "train.parquet")
    if not recipe.split.folds:
        val = files.read_table(source / "val.parquet")
        if not val.num_rows:
            raise StageError(
                "tune: the validation split has no rows to measure on: raise split.val, or set split.folds, for example 5."
            )
        return [(train, val)]
    fold = train["fold"]
    parts = [
        (train.filter(pc.not_equal(fold, number)), train.filter(pc.equal(fold, number)))
        for number in range(recipe.split.folds)
    ]
    if empty := [number for number, (_, val) in enumerate(parts) if not val.num_rows]:
        raise StageError(
            f"split.folds: fold {empty[0]} of {len(parts)} has none of the {train.num_rows} rows of train: lower the number of folds."
        )
    return parts


def collect_fingerprint_inputs(recipe: Recipe, source: Path) -> list[Any]:
    """What the trials of a study have in common but for the code: data, recipe, and the device and threads. Their number and time may grow."""
    assert recipe.tune
    data = [hashing.sha256(source / f"{side}.parquet") for side in ("train", "val")]
    said = [
        recipe.tune.model_copy(update={"trials": 1, "seconds": None}),
        recipe.train,
        recipe.split,
        recipe.columns,
    ]
    base = (
        hashing.hash_folder(Path(recipe.train.base))
        if recipe.train.base and Path(recipe.train.base).is_dir()
        else None
    )
    return [said, recipe.modality, recipe.problem, base, data, distributed.hardware_fingerprint()]
