"""Pretrain: train a base on texts without their labels, if the recipe says so.

    python -m tasks.pretrain cloud-docs-scratch

Stage `train` starts from this base. The texts are all that went into `label`, with or without a
label, except those in val or test and those that are like one there. Writes pretrained/: a folder
as transformers loads it, history.jsonl, and report.json with the loss of a token on val and its
perplexity; without a section `pretrain` only an empty report.json. A run that was cut off is
resumed from checkpoints/.pretrain/<recipe>/<fingerprint>/.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths
from tasks.telemetry import energy, tensorboard

if TYPE_CHECKING:
    from tasks.contracts.epoch_record import EpochCallback


def pretrain(recipe_name: str) -> None:
    """Pretrain the base of a registered recipe, in as many processes as it says."""
    paths = StagePaths.of_recipe(recipe_name)
    recipe = resolved.read_resolved_recipe(recipe_name)
    if recipe.pretrain is None:
        files.write_json(paths.pretrained.report, {})
        return
    from tasks.training import distributed, launch

    n_processes = recipe.pretrain.processes
    if n_processes > 1 and not distributed.is_launched():
        launch.launch_processes(recipe, n_processes, "tasks.pretrain")
        return
    checkpoints = layout.shared_path(f"checkpoints/.pretrain/{recipe_name}")
    with distributed.process_group(), energy.measure_energy():
        callbacks: tuple[EpochCallback, ...] = ()
        if distributed.rank() == 0:
            callbacks = (tensorboard.build_curve_writer(f"{recipe_name}-pretrain"),)
        run(recipe, paths, checkpoints, callbacks)


def run(
    recipe: Recipe,
    paths: StagePaths,
    checkpoints: Path,
    callbacks: "tuple[EpochCallback, ...]" = (),
) -> None:
    """Train on the rows of `label` and write the base. All processes train, the first writes.

    Args:
        recipe: With a section `pretrain`.
        paths: Where the rows are and the base goes.
        checkpoints: Where the recipe's checkpoints are.
        callbacks: Called with the history after each epoch.
    """
    from tasks.training import checkpoint, corpus, distributed, pretraining

    config = recipe.pretrain
    assert config is not None
    rows = corpus.load_corpus(paths, recipe.modality)
    trainer = pretraining.build_pretrainer(recipe, config, rows)
    fingerprint = pretraining.collect_fingerprint_inputs(recipe, paths)
    with checkpoint.lock_run_folder(checkpoints, fingerprint) as run_folder:
        history = pretraining.fit_base(recipe, trainer, rows, run_folder, callbacks)
        if distributed.rank() > 0:
            return
        pretraining.write_base(paths.pretrained, config, trainer, rows, history)
        shutil.rmtree(run_folder)


if __name__ == "__main__":
    main(pretrain)
