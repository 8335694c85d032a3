"""Pretrain: train on texts without their labels, where the recipe says so; what comes of it is the base from which `train` starts.

    python -m tasks.pretrain cloud-docs-scratch

The texts are those that went into `label`, whether they have a label or not, but for the ones that are in val or test or like one there. Writes pretrained/: a folder as transformers
loads it, history.jsonl and report.json with the loss for each token on val and its perplexity; without a `pretrain` section an empty report.json alone. A run
that was cut off is taken up from checkpoints/.pretrain/<recipe>/<fingerprint>/.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import board, code, duplicates, energy, files, resolve, sides
from tasks.recipe import Recipe
from tasks.step import Failure, main

READ = (
    "labelled/rows.parquet",
    "labelled/rejects.parquet",
    "split/val.parquet",
    "split/test.parquet",
)


def pretrain(name: str) -> None:
    folder = files.folder_of(name)
    recipe = resolve.read(name)
    if recipe.pretrain is None:
        files.write_json(folder / "pretrained" / "report.json", {})
        return
    from tasks import distributed  # brings torch, which a recipe without this need not wait for

    if recipe.pretrain.processes > 1 and not distributed.launched():
        distributed.launch(recipe, recipe.pretrain.processes, "tasks.pretrain")
        return
    with distributed.joined(), energy.measured():
        watch = board.curves(f"{name}-pretrain") if distributed.rank() == 0 else None
        run(
            recipe,
            folder,
            folder / "pretrained",
            files.of_repository(f"checkpoints/.pretrain/{name}"),
            watch,
        )


def run(recipe: Recipe, source: Path, target: Path, checkpoints: Path, watch: Any = None) -> None:
    """Train on what lies in `source`, the folder of the recipe's stages, and write `target`. All processes train, the first one writes."""
    from tasks import checkpoint, distributed, loop, modalities

    assert recipe.pretrain
    train, val, about = corpus(source, recipe.modality)
    rows, ids = modalities.rows(recipe, train), train["id"].to_pylist()
    adapter = modalities.module(recipe.modality).Pretrainer(recipe.pretrain, rows)
    examples, held = adapter.encode(rows), adapter.encode(modalities.rows(recipe, val))
    history: loop.History = []
    data = [files.sha256(source / name) for name in READ]
    of = [
        recipe.pretrain,
        recipe.columns,
        recipe.modality,
        data,
        code.fingerprint(__file__),
        distributed.place(),
    ]
    with checkpoint.own(checkpoints, of) as mine:
        if recipe.pretrain.epochs:
            none, none_held = (
                np.zeros(len(examples), np.int64),
                np.zeros(len(held), np.int64),
            )  # the targets are in the examples themselves
            named = ids if len(ids) == len(examples) else None
            history = loop.fit(
                adapter,
                recipe.pretrain,
                examples,
                none,
                held,
                none_held,
                mine,
                named,
                watch or loop.nobody,
            )
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
        with files.whole_folder(target) as folder:
            about |= adapter.export(folder)
            files.write_text(folder / "history.jsonl", loop.lines(history))
            files.write_json(
                folder / "report.json",
                {**about, "val": loss, "pretrain": recipe.pretrain.model_dump()},
            )
        shutil.rmtree(mine)


def corpus(source: Path, modality: str) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """The rows to train on, those to measure on, and how many there are of each and were left out."""
    table = files.read_table([source / name for name in READ[:2]]).sort_by("id")
    val, test = (files.read_table(source / name) for name in READ[2:])
    side = dict.fromkeys(val["id"].to_pylist(), "val") | dict.fromkeys(
        test["id"].to_pylist(), "test"
    )
    ids = table["id"].to_pylist()
    placed = [side.get(name, "train") for name in ids]
    lost, _, _ = sides.set_aside(ids, duplicates.contents(table, modality), placed)
    kept = [place == "train" and row not in lost for row, place in enumerate(placed)]
    train = table.filter(pa.array(kept, pa.bool_()))
    if not train.num_rows:
        raise Failure(
            f"pretrain: none of the {table.num_rows} rows is left that is not in val or test or like one there: lower split.val and split.test."
        )
    alike = sum(placed[row] == "train" for row in lost)
    about = {
        "rows_in": table.num_rows,
        "rows": train.num_rows,
        "held_out": len(ids) - placed.count("train"),
        "like_held_out": alike,
    }
    return train, val if val.num_rows else train, about


if __name__ == "__main__":
    main(pretrain)
