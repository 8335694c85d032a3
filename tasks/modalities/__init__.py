"""Modalities: how one kind of data becomes batches, a network, an exported file and answers.

Training, evaluation and serving go through the same adapter, so they cannot disagree about preprocessing. A new modality is one module
with these two classes and one line in CONTENT of the recipe.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import StageError
from tasks.modalities.base import Predictor, Trainer
from tasks.problems.base import Problem
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns
from tasks.statistics.array_types import Floats
from tasks.storage import files

if TYPE_CHECKING:
    from tasks.recipe.recipe import Recipe


PROMPT_PLACEHOLDER = re.compile(r"\{(\w+)\}")  # of a column in a prompt


CLASS_PREFIX = {
    "text": "Text",
    "causal_lm": "CausalLm",
    "image": "Image",
    "tabular": "Tabular",
}


def import_modality(modality: str) -> Any:
    return importlib.import_module(f"tasks.modalities.{modality}")


def modality_class(modality: str, kind: str) -> Any:
    """The modality's class of this kind: Trainer, Predictor or Pretrainer."""
    return getattr(import_modality(modality), f"{CLASS_PREFIX[modality]}{kind}")


def extract_inputs(recipe: "Recipe", table: pa.Table, gaps: bool = False) -> list[Any]:
    """The model's input for each row: the text, the bytes of the image, a mapping from column to cell, or a prompt with the text that is to follow.

    Only with `gaps` may a text or image lack.
    """
    column, prompt = CONTENT_COLUMN[recipe.modality], recipe.columns.prompt
    if column and table[column].null_count and not gaps:
        empty = table.filter(pc.is_null(table[column]))["id"].to_pylist()
        raise StageError(
            f"{len(empty)} row(s), such as {', '.join(map(str, empty[:5]))}, have no {column}: fill them in, or have a rule of clean reject them."
        )
    if column and prompt is not None:
        found = select_cells(
            table, [*dict.fromkeys(PROMPT_PLACEHOLDER.findall(prompt)), column], "columns.prompt"
        )
        return [
            {
                "prompt": PROMPT_PLACEHOLDER.sub(
                    lambda name, row=row: str(row[name[1]] or ""), prompt
                ),
                "text": row[column],
            }
            for row in found
        ]  # type: ignore[misc]
    if column:
        return list(table[column].to_pylist())
    return select_cells(
        table,
        recipe.columns.features
        or [name for name in table.column_names if name not in table_columns.ROLE_COLUMNS],
        "columns.features",
    )


def select_cells(table: pa.Table, names: list[str], key: str) -> list[dict[str, Any]]:
    for name in names:
        table_columns.get_column(table, name, key)
    return list(table.select(names).to_pylist())


def build_trainer(recipe: "Recipe", rows: Sequence[Any], problem: Problem) -> Trainer:
    """The adapter and its network, for these rows to train on."""
    made: Trainer = modality_class(recipe.modality, "Trainer")(recipe.train, rows, problem)
    if recipe.train.lora:
        from tasks.modalities import lora

        lora.add_lora_layers(made.network, recipe.train.lora, recipe.train.seed)
    return made


def load_predictor(folder: Path, threads: int = 2) -> Predictor:
    """The exported model in `folder`. Raises Failure where a file is missing or names an unknown modality."""
    about = files.read_json(folder / "model.json")
    if about.get("modality") not in CONTENT_COLUMN:
        raise StageError(
            f"{folder / 'model.json'}: modality {about.get('modality')!r} is not one of {', '.join(CONTENT_COLUMN)}: the model is from another version."
        )
    made: Predictor = modality_class(about["modality"], "Predictor")(folder, about, threads)
    return made


def predict(predictor: Predictor, rows: Sequence[Any]) -> Floats:
    """Answers of shape (rows, width), refused where they are none."""
    answers = predictor(rows)
    bad = np.flatnonzero(~predictor.problem.is_valid(answers))
    if len(bad):
        raise StageError(
            f"the model gives no probabilities or numbers for {len(bad)} of {len(rows)} test rows, first row {bad[0]}: it is broken; train again."
        )
    return answers
