"""Labelling functions: what each of them votes for, row by row; null where it abstains."""

import re
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import col
from numpy.typing import NDArray

from tasks import modalities
from tasks.contracts.model_info import ModelInfo
from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.labelling import annotations
from tasks.recipe.label import (
    KeywordFunction,
    LookupFunction,
    ModelFunction,
    RegexFunction,
    SimilarityFunction,
)
from tasks.recipe.recipe import Recipe
from tasks.rows import table_columns
from tasks.storage.layout import ModelFolder

UNSPACED_LETTERS = "\u0e00-\u0eff\u2e80-\u2fff\u3005-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"  # Thai, Lao, Chinese, Japanese, Korean


def cast_votes(recipe: Recipe, table: pa.Table) -> list[pa.Array]:
    """The votes of each function for each row."""
    encoded: dict[
        tuple[str, str], NDArray[np.float64]
    ] = {}  # by base and column, since several functions compare with the same texts
    made = []
    for number, function in enumerate(recipe.label.functions):
        key = f"label.functions[{number}]"
        if isinstance(function, ModelFunction):
            votes = vote_by_model(function, recipe, table, key)
        elif isinstance(function, LookupFunction):
            said = annotations.read_csv_labels(
                Path(function.file), function.column, function.value, key
            )
            votes = pa.array(
                [
                    said.get(text)
                    for text in read_text_column(table, function.column, key).to_pylist()
                ],
                pa.string(),
            )
        else:
            texts = read_text_column(table, function.column, key)
            hits = (
                match_examples(function, texts, encoded, key)
                if isinstance(function, SimilarityFunction)
                else match_pattern(build_pattern(function), texts, key)
            )
            votes = pc.if_else(hits, function.label, pa.scalar(None, pa.string()))
        check_votes(votes, recipe.label.classes, key)
        made.append(votes)
    return made


def build_pattern(function: RegexFunction | KeywordFunction) -> str:
    return (
        function.pattern
        if isinstance(function, RegexFunction)
        else "|".join(build_phrase_pattern(phrase.split()) for phrase in function.words)
    )


def build_phrase_pattern(parts: list[str]) -> str:
    """A pattern for a word or phrase, whatever white space stands between its parts. A word ends where another kind of letter begins; one of a script without
    spaces between words may stand anywhere."""
    first, last = (
        bool(re.match(f"[{UNSPACED_LETTERS}]", letter)) for letter in (parts[0][0], parts[-1][-1])
    )
    before, after = (
        "" if first else rf"(?:^|[\W{UNSPACED_LETTERS}])",
        "" if last else rf"(?:[\W{UNSPACED_LETTERS}]|$)",
    )
    return before + r"\s+".join(map(re.escape, parts)) + after


def match_pattern(pattern: str, texts: pa.Array, key: str) -> pa.Array:
    try:
        found = (
            daft.from_arrow(pa.table({"text": texts}))
            .select(col("text").regexp(f"(?i){pattern}").fill_null(False))
            .to_arrow()
        )
    except ValueError as error:  # Daft's patterns are Rust's, which know less than Python's
        raise StageError(
            f"{key}.pattern: {pattern} cannot be matched ({str(error).strip().splitlines()[-1]}): write it without that."
        ) from None
    return found.column(0).combine_chunks()


def match_examples(
    function: SimilarityFunction,
    texts: pa.Array,
    encoded: dict[tuple[str, str], NDArray[np.float64]],
    key: str,
) -> pa.Array:
    from tasks.modalities.text import classifier

    try:
        if (at := (function.base, function.column)) not in encoded:
            encoded[at] = classifier.embed_texts(function.base, pc.fill_null(texts, "").to_pylist())
        nearness = (encoded[at] @ classifier.embed_texts(function.base, function.examples).T).max(
            axis=1
        )
    except StageError as error:
        raise type(error)(str(error).replace("train.base", f"{key}.base")) from None
    return pc.and_(pc.is_valid(texts), pa.array(nearness >= function.threshold))


def vote_by_model(function: ModelFunction, recipe: Recipe, table: pa.Table, key: str) -> pa.Array:
    folder = Path(function.path)
    modality, predictor = (
        ModelInfo.read(ModelFolder(folder).info).modality,
        modalities.load_predictor(folder),
    )
    if predictor.problem.NAME != "classification":
        raise StageError(
            f"{key}.path: {folder} is a model for {predictor.problem.NAME}, which votes for no class: name a classifier."
        )
    if function.column is None and modality != recipe.modality:
        raise StageError(
            f"{key}.path: {folder} predicts from {modality}, but this recipe's modality is {recipe.modality}: name another model, or give column."
        )
    inputs: list[Any] = (
        modalities.extract_inputs(recipe, table, allow_missing=True)
        if function.column is None
        else read_text_column(table, function.column, key).to_pylist()
    )
    present = [row for row, value in enumerate(inputs) if value is not None]
    votes = np.full(table.num_rows, None, object)
    if present:
        probabilities = modalities.predict(predictor, [inputs[row] for row in present])
        sure = probabilities.max(axis=1) >= function.confidence
        votes[present] = np.where(
            sure, np.array(predictor.labels, object)[probabilities.argmax(axis=1)], None
        )
    return pa.array(votes, pa.string())


def read_text_column(table: pa.Table, name: str, key: str) -> pa.Array:
    """A column as text. Raises Failure where there is none or it holds something else."""
    column = table_columns.get_column(table, name, f"{key}.column")
    try:
        return pc.cast(column.combine_chunks(), pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise StageError(
            f"{key}.column: {name!r} holds {column.type}, not text: name another column."
        ) from None


def check_votes(votes: pa.Array, classes: list[str] | None, key: str) -> None:
    for label in sorted(filter(None, pc.unique(votes).to_pylist())):
        if classes is not None and label not in classes:
            raise StageError(
                f"{key} says {label!r}, which is not among label.classes{suggest_nearest(label, classes)}: correct what it reads, or add it to the list."
            )
