"""Train: fit the recipe's model and export it as it will be served.

    python -m tasks.train support-desk

Writes model/: model.safetensors, model.onnx, model.json, history.jsonl, trained_on.parquet and what the modality needs beside them (a tokenizer). A run that was
cut off is taken up from checkpoints/<recipe>/<fingerprint>/, which lies outside the stage's outputs so that it survives.

Several processes share the work where the recipe says `train: {processes: 2}`, or under torchrun, on several machines with one file system too:

    torchrun --nproc-per-node 2 --max-restarts 3 -m tasks.train support-desk
"""

import contextlib
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from tasks import modalities, problems
from tasks.contracts import epoch_record
from tasks.contracts.epoch_record import EpochCallback
from tasks.contracts.model_info import ModelInfo, TrainingStart
from tasks.core.stage import main
from tasks.modalities.text import tfidf
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.registry import local_champion
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


def train(name: str) -> None:
    paths = StagePaths.of_recipe(name)
    recipe = resolved.read_resolved_recipe(name).with_tuned_values(
        files.read_json(paths.tuned.best)
    )
    if recipe.train.processes > 1 and not distributed.is_launched():
        launch.launch_processes(recipe, recipe.train.processes, "tasks.train")
        return
    with distributed.process_group(), energy.measure_energy():
        watch = (
            tensorboard.build_curve_writer(name) if distributed.rank() == 0 else loop.no_callback
        )
        champion = resolved.read_fingerprints(name).train
        run(recipe, paths, layout.shared_path(f"checkpoints/{name}"), watch, champion)


def run(
    recipe: Recipe,
    paths: StagePaths,
    checkpoints: Path,
    watch: EpochCallback = loop.no_callback,
    champion: dict[str, Any] | None = None,
) -> None:
    """Train on the split and write the model. All processes train, the first one writes."""
    source, target = paths.split.path, paths.model.path
    tables = {side: files.read_table(source / f"{side}.parquet") for side in ("train", "val")}
    problem = problems.problem_class(recipe.problem).from_training_data(
        recipe.train, tables["train"]
    )
    rows, targets, ids = (
        modalities.extract_inputs(recipe, tables["train"]),
        problem.targets(tables["train"]),
        tables["train"]["id"].to_pylist(),
    )
    val = problem.filter_known_labels(tables["val"]) if tables["val"].num_rows else tables["train"]
    adapter = modalities.build_trainer(recipe, rows, problem)
    start: dict[str, TrainingStart] = {}  # what the champion is to this model
    teacher: Path | None = None
    if distil := recipe.export.distil:
        teacher = Path(distil.teacher)
        if distil.teacher == "champion":
            teacher, start["teacher"] = warm_start.find_teacher(recipe, champion, adapter)
        targets = (
            distillation.add_teacher_loss(adapter, distil, teacher, rows, targets)
            if teacher
            else targets
        )
    if recipe.train.warm_start:
        start["start"] = warm_start.apply_warm_start(recipe, champion, adapter)
    for name, found in start.items() if distributed.rank() == 0 else ():
        print(
            f"{name} of the training: {warm_start.describe_start(found)}",
            flush=True,
        )
    with checkpoint.lock_run_folder(
        checkpoints, [*fingerprint.collect_inputs(recipe, source), start]
    ) as mine:
        judges = modalities.extract_inputs(recipe, val), problem.targets(val)
        data = (adapter.encode(rows), targets, adapter.encode(judges[0]), judges[1])
        history = loop.fit(adapter, recipe.train, *data, mine, ids, watch)
        with (
            files.atomic_folder(target)
            if distributed.rank() == 0
            else contextlib.nullcontext(target) as folder
        ):
            written, again = (
                partial(export.export_model, folder, recipe, adapter, start),
                partial(loop.fit, adapter),
            )
            written()
            if recipe.export.has_compression:
                compression.compress_model(
                    recipe,
                    adapter,
                    teacher,
                    folder,
                    judges,
                    lambda section: again(section, *data, mine / "pruned", ids),
                    written,
                )
            if distributed.rank() > 0:
                return
            if recipe.train.lexical:
                tfidf.fit_tfidf(folder, problem, rows, problem.targets(tables["train"]))
                path = ModelFolder(folder).info
                weight = {"tfidf_weight": tfidf.INITIAL_WEIGHT}
                ModelInfo.read(path).model_copy(update=weight).write(path)
            temperature_scaling.calibrate_model(
                folder, problem, judges[0] if tables["val"].num_rows else [], judges[1]
            )
            files.write_text(folder / "history.jsonl", epoch_record.format_history(history))
            known = next((found.champion for found in start.values() if found.champion), None)
            export.write_trained_on(
                folder / "trained_on.parquet",
                ids,
                local_champion.version_folder(recipe.name, known) / "trained_on.parquet"
                if known
                else None,
            )
        shutil.rmtree(mine)


if __name__ == "__main__":
    main(train)
