"""Pretrain: train on texts without their labels, where the recipe says so; what comes of it is the base from which `train` starts.

    python -m tasks.pretrain cloud-docs-scratch

The texts are those that went into `label`, whether they have a label or not, but for the ones that are in val or test or like one there. Writes pretrained/: a folder as transformers
loads it, history.jsonl and report.json with the loss for each token on val and its perplexity; without a `pretrain` section an empty report.json alone. A run
that was cut off is taken up from checkpoints/.pretrain/<recipe>/<fingerprint>/.
"""

import dataclasses
import math
import shutil
from pathlib import Path
from typing import Any

from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.storage import code_closure, files, hashing, layout
from tasks.telemetry import energy, tensorboard
from tasks.training import corpus


def pretrain(name: str) -> None:
    folder = layout.recipe_folder(name)
    recipe = resolved.read_resolved_recipe(name)
    if recipe.pretrain is None:
        files.write_json(folder / "pretrained" / "report.json", {})
        return
    from tasks.training import distributed, launch

    if recipe.pretrain.processes > 1 and not distributed.is_launched():
        launch.launch_processes(recipe, recipe.pretrain.processes, "tasks.pretrain")
        return
    with distributed.process_group(), energy.measure_energy():
        watch = (
            tensorboard.build_curve_writer(f"{name}-pretrain") if distributed.rank() == 0 else None
        )
        run(
            recipe,
            folder,
            folder / "pretrained",
            layout.shared_path(f"checkpoints/.pretrain/{name}"),
            watch,
        )


def run(recipe: Recipe, source: Path, target: Path, checkpoints: Path, watch: Any = None) -> None:
    """Train on what lies in `source`, the folder of the recipe's stages, and write `target`. All processes train, the first one writes."""
    from tasks import modalities
    from tasks.contracts import epoch_record
    from tasks.contracts.epoch_record import History
    from tasks.training import checkpoint, distributed, loop
    from tasks.training.loop import TrainingHooks
    from tasks.training.training_data import TrainingData

    assert recipe.pretrain
    train, val, about = corpus.load_corpus(source, recipe.modality)
    rows, ids = modalities.extract_inputs(recipe, train), train["id"].to_pylist()
    build_pretrainer = modalities.get_modality(recipe.modality).pretrainer
    assert build_pretrainer is not None
    adapter = build_pretrainer(recipe.pretrain, rows)
    examples, held = adapter.encode(rows), adapter.encode(modalities.extract_inputs(recipe, val))
    history: History = []
    hashes = [hashing.sha256(source / name) for name in corpus.CORPUS_FILES]
    of = [
        recipe.pretrain,
        recipe.columns,
        recipe.modality,
        hashes,
        code_closure.hash_stage_code("pretrain"),
        distributed.hardware_fingerprint(),
    ]
    with checkpoint.lock_run_folder(checkpoints, of) as mine:
        if recipe.pretrain.epochs:
            named = ids if len(ids) == len(examples) else ()
            data = TrainingData.without_targets(examples, held, named)
            hooks = TrainingHooks(callbacks=(watch,) if watch else ())
            history = loop.fit(adapter, recipe.pretrain, data, mine, hooks)
        if distributed.rank() > 0:
            return
        best = min(history, key=lambda record: record.val["log_loss"], default=None)
        loss = (
            {
                "log_loss": best.val["log_loss"],
                "perplexity": round(math.exp(best.val["log_loss"]), 3),
                "epoch": best.epoch,
            }
            if best
            else None
        )
        with files.atomic_folder(target) as folder:
            about |= dataclasses.asdict(adapter.save_base(folder))
            files.write_text(folder / "history.jsonl", epoch_record.format_history(history))
            files.write_json(
                folder / "report.json",
                {**about, "val": loss, "pretrain": recipe.pretrain.model_dump()},
            )
        shutil.rmtree(mine)


if __name__ == "__main__":
    main(pretrain)
