"""Fingerprint."""

from pathlib import Path
from typing import Any

from tasks.recipe.recipe import Recipe
from tasks.storage import code_closure, hashing
from tasks.training import distributed


def collect_inputs(recipe: Recipe, source: Path) -> list[Any]:
    """What a checkpoint belongs to: data, recipe section, code, and the device, threads and processes, on which the bits of the weights depend."""
    data = [hashing.sha256(source / f"{side}.parquet") for side in ("train", "val")]
    read = [
        hashing.hash_folder(Path(name))
        for name in (recipe.train.base, recipe.export.distil and recipe.export.distil.teacher)
        if name and Path(name).is_dir()
    ]
    said = [recipe.train, recipe.export.distil, recipe.columns, recipe.modality, recipe.problem]
    return [
        data,
        said,
        read,
        code_closure.hash_stage_code("train"),
        distributed.hardware_fingerprint(),
    ]
