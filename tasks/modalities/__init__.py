"""Modalities: how one kind of data becomes batches, a network, an exported file and answers.

Training, evaluation and serving use the same modality, so their preprocessing cannot differ. A
new modality is one module with a `MODALITY`, the contract of its inputs in contracts/model_info.py,
and a line in `CONTENT_COLUMN` and `MODALITY_DEFAULTS` of recipe/defaults.py.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.model_info import ModelInfo, ModelInput
from tasks.core.errors import StageError
from tasks.modalities.base import InputRow, Modality, ModelTrainer, Predictor
from tasks.problems.base import Problem
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns
from tasks.rows.table_columns import ROLE_COLUMNS
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

if TYPE_CHECKING:
    from tasks.recipe.recipe import Recipe

PROMPT_PLACEHOLDER = re.compile(r"\{(\w+)\}")  # stands for a column's cell in a prompt
MAX_IDS_SHOWN = 5

TableRow = dict[str, Any]  # column → cell


def get_modality(name: str) -> Modality:
    """Return the modality, importing its module when it is first needed."""
    modality: Modality = importlib.import_module(f"tasks.modalities.{name}").MODALITY
    return modality


def extract_inputs(
    recipe: "Recipe", table: pa.Table, *, allow_missing: bool = False
) -> list[InputRow]:
    """Extract what the model reads of each row.

    That is a text, the bytes of an image, the cells by column, or a prompt with its text.

    Raises:
        StageError: A text or image is missing and `allow_missing` is not set, or a column is.
    """
    column = CONTENT_COLUMN[recipe.modality]
    if column is None:
        features = [name for name in table.column_names if name not in ROLE_COLUMNS]
        return select_cells(table, recipe.columns.features or features, "columns.features")
    if not allow_missing:
        require_content(table, column)
    if recipe.columns.prompt is not None:
        return build_prompts(table, recipe.columns.prompt, column)
    return list(table[column].to_pylist())


def require_content(table: pa.Table, column: str) -> None:
    """Raise StageError if a cell of the content column is missing."""
    if not table[column].null_count:
        return
    ids = table.filter(pc.is_null(table[column]))["id"].to_pylist()
    shown = ", ".join(str(row_id) for row_id in ids[:MAX_IDS_SHOWN])
    raise StageError(
        f"{len(ids)} row(s), such as {shown}, have no {column}: fill them in, or have a rule of "
        "clean reject them."
    )


def build_prompts(table: pa.Table, prompt: str, column: str) -> list[dict[str, str]]:
    """Fill the columns named in the prompt into it, for each row, beside the row's text."""
    names = list(dict.fromkeys([*PROMPT_PLACEHOLDER.findall(prompt), column]))
    rows = select_cells(table, names, "columns.prompt")
    return [{"prompt": fill_prompt(prompt, row), "text": row[column]} for row in rows]


def fill_prompt(prompt: str, row: TableRow) -> str:
    """Replace each {column} of the prompt by the row's cell; a missing cell is empty."""
    return PROMPT_PLACEHOLDER.sub(lambda match: str(row[match[1]] or ""), prompt)


def select_cells(table: pa.Table, names: Sequence[str], key: str) -> list[TableRow]:
    """Return these columns' cells of each row; `key` of the recipe names the columns."""
    for name in names:
        table_columns.get_column(table, name, key)
    return list(table.select(names).to_pylist())


def build_trainer(recipe: "Recipe", rows: Sequence[InputRow], problem: Problem) -> ModelTrainer:
    """Build the trainer and its network for these training rows."""
    trainer = get_modality(recipe.modality).trainer(recipe.train, rows, problem)
    if recipe.train.lora:
        from tasks.modalities import lora

        lora.add_lora_layers(trainer.network, recipe.train.lora, recipe.train.seed)
    return trainer


def complete_input(recipe: "Recipe", model_input: ModelInput) -> ModelInput:
    """Add what the cleaning does to a row that the model has to do itself when it is served."""
    resize = recipe.clean.last_arguments("resize")
    if resize is None:
        return model_input
    return model_input.model_copy(update={"resize": resize["how"]})


def load_predictor(folder: Path, threads: int = 2) -> Predictor:
    """Open the exported model in a folder.

    Raises:
        StageError: A file is missing, damaged or of another version.
    """
    return open_predictor(folder, ModelInfo.read(ModelFolder(folder).info), threads)


def open_predictor(folder: Path, info: ModelInfo, threads: int = 2) -> Predictor:
    """Open the exported model in a folder whose model.json may not be written yet."""
    return get_modality(info.modality).predictor(folder, info, threads)


def predict(predictor: Predictor, rows: Sequence[InputRow]) -> Floats:
    """Return the model's answers, `[rows, width]`.

    Raises:
        StageError: Some of them are no probabilities or finite numbers.
    """
    answers = predictor(rows)
    invalid = np.flatnonzero(~predictor.problem.is_valid(answers))
    if len(invalid):
        raise StageError(
            f"the model gives no probabilities or numbers for {len(invalid)} of {len(rows)} test "
            f"rows, the first of which is row {invalid[0]}: it is broken; train again."
        )
    return answers
