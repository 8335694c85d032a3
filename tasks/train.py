"""Train: fit the recipe's model and export it as it will be served.

    python -m tasks.train support-desk

Writes model/: model.safetensors, model.onnx, model.json, history.jsonl, trained_on.parquet and what
the modality needs beside them (a tokenizer). A run that was cut off is resumed from
checkpoints/<recipe>/<fingerprint>/, which lies outside the stage's outputs so that it survives.

Several processes share the work if the recipe says `train: {processes: 2}`, or under torchrun, also
on several machines with one file system:

    torchrun --nproc-per-node 2 --max-restarts 3 -m tasks.train support-desk
"""

import shutil
from dataclasses import replace
from pathlib import Path

from tasks import modalities
from tasks.contracts import epoch_record
from tasks.contracts.epoch_record import EpochCallback, History
from tasks.core import notices
from tasks.core.stage import main
from tasks.modalities.base import ModelTrainer
from tasks.modalities.text import tfidf
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.registry import local_champion
from tasks.registry.local_champion import LocalChampion
from tasks.storage import files, layout
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.telemetry import energy, tensorboard
from tasks.training import (
    checkpoint,
    compression,
    distillation,
    distributed,
    export,
    fingerprint,
    launch,
    loop,
    temperature_scaling,
    warm_start,
)
from tasks.training.export import ModelExport
from tasks.training.labelled_rows import TrainingRows
from tasks.training.loop import TrainingHooks
from tasks.training.warm_start import Origins


def train(recipe_name: str) -> None:
    """Train the model of a registered recipe, in as many processes as it says."""
    paths = StagePaths.of_recipe(recipe_name)
    recipe = resolved.read_resolved_recipe(recipe_name)
    recipe = recipe.with_tuned_values(files.read_json(paths.tuned.best))
    if recipe.train.processes > 1 and not distributed.is_launched():
        launch.launch_processes(recipe, recipe.train.processes, "tasks.train")
        return
    checkpoints = layout.shared_path(f"checkpoints/{recipe_name}")
    recorded = resolved.read_fingerprints(recipe_name).train
    champion = LocalChampion.model_validate(recorded) if recorded else None
    with distributed.process_group(), energy.measure_energy():
        callbacks: tuple[EpochCallback, ...] = ()
        if distributed.rank() == 0:
            callbacks = (tensorboard.build_curve_writer(recipe_name),)
        run(recipe, paths, checkpoints, champion, callbacks)


def run(
    recipe: Recipe,
    paths: StagePaths,
    checkpoints: Path,
    champion: LocalChampion | None = None,
    callbacks: tuple[EpochCallback, ...] = (),
) -> None:
    """Train on the split and write the model. All processes train, the first one writes.

    Args:
        recipe: With the values that `tune` found.
        paths: Where the split is and the model goes.
        checkpoints: Where the recipe's checkpoints are.
        champion: What was in production when the recipe was resolved.
        callbacks: Called with the history after each epoch.
    """
    rows = TrainingRows.read(recipe, paths.split)
    adapter = modalities.build_trainer(recipe, rows.train.inputs, rows.problem)
    origins = warm_start.find_origins(recipe, champion, adapter)
    print_start(origins, adapter)
    hooks = build_hooks(recipe, origins, rows, callbacks)
    run_inputs = [*fingerprint.collect_inputs(recipe, paths.split), origins.records]
    with checkpoint.lock_run_folder(checkpoints, run_inputs) as run_folder:
        data = rows.encode(adapter)
        history = loop.fit(adapter, recipe.train, data, run_folder, hooks)

        def refit(config: Train) -> History:
            continued = replace(hooks, init=keep_weights, callbacks=())
            return loop.fit(adapter, config, data, run_folder / "pruned", continued)

        with export.model_folder(paths.model) as folder:
            model = ModelExport(recipe, adapter, folder)
            model.write()
            teacher = origins.teacher.folder if origins.teacher else None
            if recipe.export.has_compression:
                compression.compress_model(model, rows.val, teacher, refit)
            if distributed.rank() > 0:
                return
            finish_model(model, rows, origins, history)
        shutil.rmtree(run_folder)


def print_start(origins: Origins, adapter: ModelTrainer) -> None:
    """Show people what the training starts and learns from, and how its rows are read."""
    if distributed.rank() > 0:
        return
    notices.print_warnings(f"train: {warning}" for warning in adapter.warnings)
    for name, origin in origins.records.items():
        description = warm_start.describe_origin(origin)
        print(f"{name} of the training: {description}", flush=True)


def build_hooks(
    recipe: Recipe, origins: Origins, rows: TrainingRows, callbacks: tuple[EpochCallback, ...]
) -> TrainingHooks:
    """Build what varies: the first weights, the loss that a teacher adds to, and who watches."""
    init = origins.start.init if origins.start else None
    distil = recipe.export.distil
    objective = None
    if distil and origins.teacher and origins.teacher.folder:
        folder = origins.teacher.folder
        objective = distillation.build_objective(distil, folder, rows.train, rows.problem)
    return TrainingHooks(init, objective, callbacks)


def keep_weights(*_: object) -> None:
    """Begin with the weights that the network has."""


def finish_model(
    model: ModelExport, rows: TrainingRows, origins: Origins, history: History
) -> None:
    """Fit what comes after the network, and write what is to be known about the model."""
    if model.recipe.train.lexical:
        tfidf.fit_tfidf(model.folder.path, rows.problem, rows.train.inputs, rows.train.targets)
        model.note(tfidf_weight=tfidf.INITIAL_WEIGHT)
    val_rows = rows.val if rows.has_val else None
    temperature_scaling.calibrate_model(model, rows.problem, val_rows)
    model.note(**origins.records)
    model.write_info()
    files.write_text(model.folder.history, epoch_record.format_history(history))
    before = None
    if origins.champion:
        folder = local_champion.version_folder(model.recipe.name, origins.champion)
        before = ModelFolder(folder).trained_on
    export.write_trained_on(model.folder.trained_on, rows.train.ids, before)


if __name__ == "__main__":
    main(train)
