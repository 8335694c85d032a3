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

import pyarrow as pa
from safetensors.torch import save_file

from tasks import (
    board,
    champion,
    checkpoint,
    code,
    compression,
    distillation,
    distributed,
    energy,
    files,
    loop,
    modalities,
    problems,
    resolve,
    temperature,
)
from tasks.modalities import lexical, lora
from tasks.recipe import Recipe
from tasks.step import main


def train(name: str) -> None:
    folder = files.folder_of(name)
    recipe = resolve.read(name).tuned(files.read_json(folder / "tuned" / "best.json"))
    if recipe.train.processes > 1 and not distributed.launched():
        distributed.launch(recipe, recipe.train.processes, "tasks.train")
        return
    with distributed.joined(), energy.measured():
        watch = board.curves(name) if distributed.rank() == 0 else loop.nobody
        known = files.read_json(resolve.path_of(name))["sources"]["train"]
        run(
            recipe,
            folder / "split",
            folder / "model",
            files.of_repository(f"checkpoints/{name}"),
            watch,
            known,
        )


def run(
    recipe: Recipe,
    source: Path,
    target: Path,
    checkpoints: Path,
    watch: loop.Watch = loop.nobody,
    known_champion: dict[str, Any] | None = None,
) -> None:
    """Train from `source` and write `target`. All processes train, the first one writes."""
    tables = {side: files.read_table(source / f"{side}.parquet") for side in ("train", "val")}
    problem = problems.module(recipe.problem).fitted(recipe.train, tables["train"])
    rows, targets, ids = (
        modalities.rows(recipe, tables["train"]),
        problem.targets(tables["train"]),
        tables["train"]["id"].to_pylist(),
    )
    val = problem.known(tables["val"]) if tables["val"].num_rows else tables["train"]
    adapter = modalities.trainer(recipe, rows, problem)
    start: dict[str, Any] = {}  # what the champion is to this model
    teacher: Path | None = None
    if distil := recipe.export.distil:
        teacher = Path(distil.teacher)
        if distil.teacher == "champion":
            teacher, start["teacher"] = champion.teacher(recipe, known_champion, adapter)
        targets = (
            distillation.taught(adapter, distil, teacher, rows, targets) if teacher else targets
        )
    if recipe.train.warm_start:
        start["start"] = champion.start(recipe, known_champion, adapter)
    for name, found in start.items() if distributed.rank() == 0 else ():
        print(
            f"{name} of the training: {', '.join(f'{key} {value}' for key, value in found.items())}",
            flush=True,
        )
    with checkpoint.own(checkpoints, [*fingerprint(recipe, source), start]) as mine:
        judges = modalities.rows(recipe, val), problem.targets(val)
        data = (adapter.encode(rows), targets, adapter.encode(judges[0]), judges[1])
        history = loop.fit(adapter, recipe.train, *data, mine, ids, watch)
        with (
            files.whole_folder(target)
            if distributed.rank() == 0
            else contextlib.nullcontext(target) as folder
        ):
            written, again = (
                partial(write, folder, recipe, adapter, start),
                partial(loop.fit, adapter),
            )
            written()
            if recipe.export.compresses:
                compression.compress(
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
                lexical.fit(folder, problem, rows, problem.targets(tables["train"]))
            temperature.calibrate(
                folder, problem, judges[0] if tables["val"].num_rows else [], judges[1]
            )
            files.write_text(folder / "history.jsonl", loop.lines(history))
            known = next(
                (found["champion"] for found in start.values() if "champion" in found), None
            )
            write_trained_on(
                folder / "trained_on.parquet",
                ids,
                champion.FOLDER / recipe.name / known / "trained_on.parquet" if known else None,
            )
        shutil.rmtree(mine)


def write(target: Path, recipe: Recipe, adapter: modalities.Trainer, start: dict[str, Any]) -> None:
    """The weights, the exported model and what is to be known of it. The other processes have the same, and write nothing."""
    if distributed.rank() > 0:
        return
    lora.merge(adapter.network)
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in adapter.network.state_dict().items()
    }
    with files.whole(target / "model.safetensors") as temporary:
        save_file(weights, temporary)
    with adapter.problem.exporting(adapter.network):
        about = adapter.export(target)
    count = sum(
        weights[name].numel() for name, _ in adapter.network.named_parameters() if name in weights
    )
    about |= {
        "modality": recipe.modality,
        "problem": recipe.problem,
        "labels": adapter.problem.labels,
        "parameters": count,
        "inputs": adapter.inputs(),
        **start,
    }
    files.write_json(target / "model.json", {**about, "train": recipe.train.model_dump()})


def write_trained_on(path: Path, ids: list[str], before: Path | None = None) -> None:
    """Which rows the model was trained on, as hashes of their ids, so that it can be said of an erased row which models knew it: also by way of the champion."""
    known = set(files.read_table(before)["id"].to_pylist()) if before else set()
    files.write_table(
        path,
        pa.table(
            {"id": pa.array(sorted(known | {files.name_hash(name) for name in ids}), pa.binary(8))}
        ),
    )


def fingerprint(recipe: Recipe, source: Path) -> list[Any]:
    """What a checkpoint belongs to: data, recipe section, code, and the device, threads and processes, on which the bits of the weights depend."""
    data = [files.sha256(source / f"{side}.parquet") for side in ("train", "val")]
    read = [
        files.hashes(Path(name))
        for name in (recipe.train.base, recipe.export.distil and recipe.export.distil.teacher)
        if name and Path(name).is_dir()
    ]
    said = [recipe.train, recipe.export.distil, recipe.columns, recipe.modality, recipe.problem]
    return [data, said, read, code.fingerprint(__file__), distributed.place()]


if __name__ == "__main__":
    main(train)
