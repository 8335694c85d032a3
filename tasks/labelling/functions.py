"""Labelling functions: the label that each votes for, row by row; null if it abstains."""

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
from tasks.modalities.base import Predictor
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

# Thai, Lao, Chinese, Japanese, Korean: scripts without spaces between words.
UNSPACED_LETTERS = (
    "\u0e00-\u0eff\u2e80-\u2fff\u3005-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)

# By base and column: several functions may compare with the same texts.
EmbeddingCache = dict[tuple[str, str], NDArray[np.float64]]


def cast_votes(recipe: Recipe, table: pa.Table) -> list[pa.Array]:
    """Let each function vote for each row.

    Raises:
        StageError: A function cannot vote, or votes for a label that is not allowed.
    """
    embeddings: EmbeddingCache = {}
    votes_of_functions = []
    for number, function in enumerate(recipe.label.functions):
        key = f"label.functions[{number}]"
        if isinstance(function, ModelFunction):
            votes = vote_by_model(function, recipe, table, key)
        elif isinstance(function, LookupFunction):
            votes = vote_by_lookup(function, table, key)
        elif isinstance(function, SimilarityFunction):
            texts = read_text_column(table, function.column, key)
            votes = vote_for(function.label, match_examples(function, texts, embeddings, key))
        else:
            texts = read_text_column(table, function.column, key)
            votes = vote_for(function.label, match_pattern(build_pattern(function), texts, key))
        check_votes(votes, recipe.label.classes, key)
        votes_of_functions.append(votes)
    return votes_of_functions


def vote_for(label: str, is_match: pa.Array) -> pa.Array:
    """Vote for one label where the mask is true."""
    return pc.if_else(is_match, label, pa.scalar(None, pa.string()))


def vote_by_lookup(function: LookupFunction, table: pa.Table, key: str) -> pa.Array:
    """Vote for the label that a file gives for each row's key."""
    labels = annotations.read_csv_labels(Path(function.file), function.column, function.value, key)
    keys = read_text_column(table, function.column, key).to_pylist()
    return pa.array([labels.get(text) for text in keys], pa.string())


def build_pattern(function: RegexFunction | KeywordFunction) -> str:
    """Return the regular expression that finds a function's pattern or words."""
    if isinstance(function, RegexFunction):
        return function.pattern
    return "|".join(build_phrase_pattern(phrase.split()) for phrase in function.words)


def build_phrase_pattern(words: list[str]) -> str:
    r"""Return the pattern of a word or phrase with any white space between its words.

    A word ends where another kind of letter begins. A word of a script without spaces between
    words is found anywhere. (Daft's regular expressions have no look-around, so `\b` is spelled
    out.)
    """
    begins_unspaced = re.match(f"[{UNSPACED_LETTERS}]", words[0][0])
    ends_unspaced = re.match(f"[{UNSPACED_LETTERS}]", words[-1][-1])
    before = "" if begins_unspaced else rf"(?:^|[\W{UNSPACED_LETTERS}])"
    after = "" if ends_unspaced else rf"(?:[\W{UNSPACED_LETTERS}]|$)"
    return before + r"\s+".join(map(re.escape, words)) + after


def match_pattern(pattern: str, texts: pa.Array, key: str) -> pa.Array:
    """Tell for each text whether the pattern occurs in it, in any case.

    Raises:
        StageError: Daft does not know a part of the pattern.
    """
    is_match = col("text").regexp(f"(?i){pattern}").fill_null(False)  # noqa: FBT003
    try:
        matches = daft.from_arrow(pa.table({"text": texts})).select(is_match).to_arrow()
    except ValueError as error:  # Daft's patterns are Rust's, which know less than Python's
        reason = str(error).strip().splitlines()[-1]
        raise StageError(
            f"{key}.pattern: {pattern} cannot be matched ({reason}): write it without that."
        ) from None
    return matches.column(0).combine_chunks()


def match_examples(
    function: SimilarityFunction, texts: pa.Array, embeddings: EmbeddingCache, key: str
) -> pa.Array:
    """Tell for each text whether its cosine to one of the examples reaches the threshold."""
    from tasks.modalities.text import classifier

    cache_key = (function.base, function.column)
    try:
        if cache_key not in embeddings:
            filled = pc.fill_null(texts, "").to_pylist()
            embeddings[cache_key] = classifier.embed_texts(
                function.base, filled
            )  # [rows, dimensions]
        examples = classifier.embed_texts(
            function.base, function.examples
        )  # [examples, dimensions]
    except StageError as error:
        raise type(error)(str(error).replace("train.base", f"{key}.base")) from None
    cosine = (embeddings[cache_key] @ examples.T).max(axis=1)  # [rows]
    return pc.and_(pc.is_valid(texts), pa.array(cosine >= function.threshold))


def vote_by_model(function: ModelFunction, recipe: Recipe, table: pa.Table, key: str) -> pa.Array:
    """Vote for what another model predicts, if it is confident enough.

    Raises:
        StageError: The model is no classifier, or reads another kind of data.
    """
    predictor = load_voter(function, recipe, key)
    inputs: list[Any]
    if function.column is None:
        inputs = modalities.extract_inputs(recipe, table, allow_missing=True)
    else:
        inputs = read_text_column(table, function.column, key).to_pylist()
    present = [row for row, value in enumerate(inputs) if value is not None]
    votes = np.full(table.num_rows, None, object)
    if present:
        probabilities = modalities.predict(predictor, [inputs[row] for row in present])
        best = np.array(predictor.labels, object)[probabilities.argmax(axis=1)]
        is_confident = probabilities.max(axis=1) >= function.confidence
        votes[present] = np.where(is_confident, best, None)
    return pa.array(votes, pa.string())


def load_voter(function: ModelFunction, recipe: Recipe, key: str) -> Predictor:
    """Load another model and check that it can vote on this recipe's rows."""
    folder = Path(function.path)
    modality = ModelInfo.read(ModelFolder(folder).info).modality
    predictor = modalities.load_predictor(folder)
    if predictor.problem.NAME != "classification":
        raise StageError(
            f"{key}.path: {folder} is a model for {predictor.problem.NAME}, which votes for no "
            "class: name a classifier."
        )
    if function.column is None and modality != recipe.modality:
        raise StageError(
            f"{key}.path: {folder} predicts from {modality}, but this recipe's modality is "
            f"{recipe.modality}: name another model, or give column."
        )
    return predictor


def read_text_column(table: pa.Table, name: str, key: str) -> pa.Array:
    """Return a column as text.

    Raises:
        StageError: There is no such column, or it cannot be text.
    """
    column = table_columns.get_column(table, name, f"{key}.column")
    try:
        return pc.cast(column.combine_chunks(), pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise StageError(
            f"{key}.column: {name!r} holds {column.type}, not text: name another column."
        ) from None


def check_votes(votes: pa.Array, classes: list[str] | None, key: str) -> None:
    """Require that all votes are for classes that the recipe lists, if it lists any."""
    if classes is None:
        return
    for label in sorted(filter(None, pc.unique(votes).to_pylist())):
        if label not in classes:
            raise StageError(
                f"{key} votes for {label!r}, which is not among label.classes"
                f"{suggest_nearest(label, classes)}: correct what it reads, or add it to the list."
            )
