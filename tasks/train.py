"""Train: fit the recipe's model and export it as it will be served.

    python -m tasks.train support-desk

Writes model/: model.safetensors, model.onnx, model.json, history.jsonl, trained_on.parquet and what the modality needs beside them (a tokenizer). A run that was
cut off is taken up from checkpoints/<recipe>/<fingerprint>/, which lies outside the stage's outputs so that it survives.
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from tasks import board, compression, energy, files, loop, modalities, resolve
from tasks.recipe import Recipe
from tasks.step import main

CHECKPOINTS = Path("checkpoints")


def train(name: str) -> None:
    folder = files.folder_of(name)
    recipe = resolve.read(name).tuned(files.read_json(folder / "tuned" / "best.json"))
    with energy.measured():
        run(recipe, folder / "split", folder / "model", CHECKPOINTS / name, board.curves(name))


def run(recipe: Recipe, source: Path, target: Path, checkpoints: Path, watch: loop.Watch = loop.nobody) -> None:
    torch.use_deterministic_algorithms(True)
    tables = {side: files.read_table(source / f"{side}.parquet") for side in ("train", "val")}
    labels = sorted(set(tables["train"]["label"].to_pylist()))
    rows = modalities.rows(recipe, tables["train"])
    adapter = modalities.trainer(recipe, rows, len(labels))
    val = known(tables["val"], labels) if tables["val"].num_rows else tables["train"]
    mine = checkpoints / fingerprint(recipe, source)
    for other in checkpoints.glob("*"):
        if other != mine:
            shutil.rmtree(other)
    rows_val, labels_val = modalities.rows(recipe, val), indices(val, labels)
    data = (adapter.encode(rows), indices(tables["train"], labels), adapter.encode(rows_val), labels_val)
    history = loop.fit(adapter, recipe.train, *data, mine, watch)
    write_model(recipe, adapter, labels, target)
    if recipe.export.compresses:
        compression.compress(
            recipe,
            adapter,
            target,
            rows_val,
            labels_val,
            lambda section: loop.fit(adapter, section, *data, mine / "pruned"),
            lambda: write_model(recipe, adapter, labels, target),
        )
    files.write_text(target / "history.jsonl", "".join(json.dumps(record, sort_keys=True) + "\n" for record in history))
    write_trained_on(target / "trained_on.parquet", tables["train"]["id"].to_pylist())
    shutil.rmtree(mine, ignore_errors=True)


def write_model(recipe: Recipe, adapter: modalities.Trainer, labels: list[str], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter.network.state_dict().items()}
    with files.whole(target / "model.safetensors") as temporary:
        save_file(weights, temporary)
    about = adapter.export(target)
    count = sum(parameter.numel() for parameter in adapter.network.parameters())
    files.write_json(target / "model.json", {"modality": recipe.modality, "labels": labels, "parameters": count, "train": recipe.train.model_dump(), **about})


def write_trained_on(path: Path, ids: list[str]) -> None:
    """Which rows the model was trained on, as hashes of their ids, so that it can be said of an erased row which models knew it."""
    files.write_table(path, pa.table({"id": pa.array(sorted(files.name_hash(name) for name in ids), pa.binary(8))}))


def known(table: pa.Table, labels: list[str]) -> pa.Table:
    return table.filter(pa.array([label in set(labels) for label in table["label"].to_pylist()]))


def indices(table: pa.Table, labels: list[str]) -> NDArray[np.int64]:
    position = {label: index for index, label in enumerate(labels)}
    return np.array([position[label] for label in table["label"].to_pylist()], dtype=np.int64)


def fingerprint(recipe: Recipe, source: Path) -> str:
    """What a checkpoint belongs to: data, recipe section, code, and the device and threads, on which the bits of the weights depend."""
    place = loop.device()
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu {torch.get_num_threads()} {loop.has_bf16(place)}"
    parts = [files.sha256(source / f"{side}.parquet") for side in ("train", "val")]
    parts += [
        files.sha256(path) for path in sorted([*Path(__file__).parent.glob("*.py"), *(Path(__file__).parent / "modalities").glob("*.py")]) if path.stem in CODE
    ]
    parts += [recipe.train.model_dump_json(), recipe.modality, torch.__version__, name]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


CODE = {"loop", "train", "text", "image", "tabular", "intervals"}

if __name__ == "__main__":
    main(train)
