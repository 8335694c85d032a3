"""What the result of a training depends on; checkpoints are kept below a hash of it."""

from pathlib import Path
from typing import Any

from tasks.recipe.recipe import Recipe
from tasks.storage import code_closure, hashing
from tasks.storage.layout import SplitFolder
from tasks.training import distributed


def collect_inputs(recipe: Recipe, split: SplitFolder) -> list[Any]:
    """List what a checkpoint of `train` belongs to: data, recipe, code and hardware.

    Device, threads and processes count too, because the bits of the weights depend on them.
    """
    distil = recipe.export.distil
    models = [recipe.train.base, distil and distil.teacher]
    return [
        hash_training_data(split),
        [recipe.train, distil, recipe.columns, recipe.modality, recipe.problem],
        [hashing.hash_folder(Path(name)) for name in models if name and Path(name).is_dir()],
        code_closure.hash_stage_code("train"),
        distributed.hardware_fingerprint(),
    ]


def hash_training_data(split: SplitFolder) -> list[str]:
    """Hash the rows to train and to measure on."""
    return [hashing.sha256(split.train), hashing.sha256(split.val)]
