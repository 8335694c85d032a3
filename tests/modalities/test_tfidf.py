"""The linear model of a text's tokens that is added to the network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import modalities, train
from tasks.contracts.model_info import ModelInfo
from tasks.core.errors import ConfigError
from tasks.modalities.text import tfidf
from tasks.modalities.text.tfidf import TfidfModel
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tasks.training import temperature_scaling
from tests import tiny


def train_with_tfidf(folder: Path, rows: int = 200, **options: Any) -> Recipe:
    """Train a model with a TF-IDF model on so many rows, in folder/model."""
    tiny.base(folder / "base")
    recipe = tiny.recipe("text", folder, epochs=1, lexical=True, **options)
    paths = StagePaths(folder)
    tiny.split("text", paths.split.path, rows)
    files.write_table(paths.split.val, tiny.table("text", 900, 80))
    train.run(recipe, paths, folder / "checkpoints")
    return recipe


def test_terms_are_tokens_and_ordered_pairs_weighed_by_the_log_of_their_count() -> None:
    terms, weights = tfidf.weigh_terms([5, 3, 5, 3])
    pair_of_3_and_5 = 4 * tfidf.PAIR_FACTOR + 5
    pair_of_5_and_3 = 6 * tfidf.PAIR_FACTOR + 3
    assert terms.tolist() == [3, 5, pair_of_3_and_5, pair_of_5_and_3]
    assert weights == pytest.approx(1 + np.log([2, 2, 1, 2]))
    assert tfidf.weigh_terms([])[0].tolist() == []


def test_a_text_is_a_vector_of_length_1_or_0_without_known_terms() -> None:
    texts = [tfidf.weigh_terms(ids) for ids in ([1, 9], [], [7])]
    vocabulary = np.array([1, 2, 9])
    idf = np.array([1.0, 1.0, 2.0])
    matrix = tfidf.build_term_matrix(texts, vocabulary, idf).toarray()
    expected = np.array([[1, 0, 2], [0, 0, 0], [0, 0, 0]]) / np.sqrt(5)
    assert matrix == pytest.approx(expected)


def test_the_weight_is_the_one_with_the_least_loss_on_val(tmp_path: Path) -> None:
    recipe = train_with_tfidf(tmp_path, 400)
    paths = StagePaths(tmp_path)
    info = ModelInfo.read(paths.model.info)
    val = files.read_table(paths.split.val)
    assert val.num_rows >= temperature_scaling.MIN_ROWS
    inputs = modalities.extract_inputs(recipe, val)
    losses = {}
    for weight in temperature_scaling.TFIDF_WEIGHTS:
        changes = {"tfidf_weight": weight, "temperature": 1.0}
        predictor = modalities.open_predictor(paths.model.path, info.model_copy(update=changes))
        targets = predictor.problem.targets(val)
        answers = modalities.predict(predictor, inputs)
        _, losses[weight] = temperature_scaling.fit_temperature(predictor.problem, targets, answers)
    assert info.tfidf_weight in losses
    assert losses[info.tfidf_weight] == pytest.approx(min(losses.values()))


def test_a_row_alone_is_predicted_as_among_others(tmp_path: Path) -> None:
    recipe = train_with_tfidf(tmp_path)
    paths = StagePaths(tmp_path)
    inputs = modalities.extract_inputs(recipe, files.read_table(paths.split.val))
    predictor = modalities.load_predictor(paths.model.path)
    alone = modalities.predict(predictor, inputs[:1])
    assert alone == pytest.approx(modalities.predict(predictor, inputs)[:1], abs=1e-5)


def test_it_reads_what_the_network_does_not(tmp_path: Path) -> None:
    train_with_tfidf(tmp_path)
    paths = StagePaths(tmp_path)
    text = " ".join(["word"] * 600)
    [(terms, weights)] = tfidf.tokenize_terms(paths.model.path, [text])
    assert len(terms) > 0
    tokenizer = json.loads(paths.model.tokenizer.read_text())
    counts = np.exp(weights - 1)
    assert counts.max() > tokenizer["truncation"]["max_length"]
    labels = modalities.load_predictor(paths.model.path).labels
    assert TfidfModel(paths.model.path)([text]).shape == (1, len(labels))


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        train_with_tfidf(tmp_path / name)
        hashes.append(hashing.sha256(tmp_path / name / "model" / tfidf.TFIDF_FILE))
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            "modality: image\ntrain: {lexical: true}",
            "train.lexical: only a text has words, and this is image: leave it out",
        ),
        ("modality: text\nproblem: multilabel\ntrain: {lexical: true}", "made for one class a row"),
        (
            "modality: text\n"
            "pretrain: {network: {layers: 1, hidden_size: 16, num_heads: 1}, lexical: true}",
            "lexical is for training with labels",
        ),
    ],
)
def test_a_recipe_that_cannot_have_it_is_refused(
    sections: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "made.yaml").write_text(
        "name: made\n"
        "ingest: {kind: files, path: made.csv}\n"
        f"{sections}\n"
        "gate: [{rule: floor, metric: macro_f1, bound: 0.5}]\n"
    )
    with pytest.raises(ConfigError, match=sentence):
        read_recipe(tmp_path / "made.yaml")
