"""Export."""

from pathlib import Path

import pyarrow as pa
from safetensors.torch import save_file

from tasks.contracts.model_info import ModelInfo, TrainingStart
from tasks.modalities import lora
from tasks.modalities.base import ModelTrainer
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder
from tasks.training import distributed


def export_model(
    target: Path, recipe: Recipe, adapter: ModelTrainer, start: dict[str, TrainingStart]
) -> None:
    """Write the weights, the exported model and model.json; only the first process does."""
    if distributed.rank() > 0:
        return
    lora.merge_lora_layers(adapter.network)
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in adapter.network.state_dict().items()
    }
    with files.atomic_file(target / "model.safetensors") as temporary:
        save_file(weights, temporary)
    with adapter.problem.prepare_for_export(adapter.network):
        model_input = adapter.export(target)
    count = sum(
        weights[name].numel() for name, _ in adapter.network.named_parameters() if name in weights
    )
    info = ModelInfo(
        problem=recipe.problem,
        labels=adapter.labels,
        parameters=count,
        base=recipe.train.base,
        input=model_input,
        input_signature=adapter.input_signature(),
        train=recipe.train.model_dump(mode="json"),
        start=start.get("start"),
        teacher=start.get("teacher"),
    )
    info.write(ModelFolder(target).info)


def write_trained_on(path: Path, ids: list[str], before: Path | None = None) -> None:
    """Which rows the model was trained on, as hashes of their ids, so that it can be said of an erased row which models knew it: also by way of the champion."""
    known = set(files.read_table(before)["id"].to_pylist()) if before else set()
    files.write_table(
        path,
        pa.table(
            {
                "id": pa.array(
                    sorted(known | {hashing.hash_row_id(name) for name in ids}), pa.binary(8)
                )
            }
        ),
    )
