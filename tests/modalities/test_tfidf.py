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
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tasks.training import temperature_scaling
from tests import tiny


def trained(folder: Path, rows: int = 200, **options: Any) -> tuple[Any, dict[str, Any]]:
    tiny.base(folder / "base")
    made = tiny.recipe("text", folder, epochs=1, lexical=True, **options)
    tiny.split("text", folder / "split", rows)
    files.write_table(folder / "split" / "val.parquet", tiny.table("text", 900, 80))
    train.run(made, StagePaths(folder), folder / "checkpoints")
    return made, files.read_json(folder / "model" / "model.json")


def test_terms_are_tokens_and_pairs_in_their_order_and_count_by_their_logarithm() -> None:
    found, amounts = tfidf.weigh_terms([5, 3, 5, 3])
    assert found.tolist() == [3, 5, 4 * tfidf.PAIR_FACTOR + 5, 6 * tfidf.PAIR_FACTOR + 3]
    assert amounts == pytest.approx(1 + np.log([2, 2, 1, 2]))
    assert tfidf.weigh_terms([])[0].tolist() == []


def test_rows_have_the_length_one_over_known_terms_and_none_where_nothing_is_known() -> None:
    made = tfidf.build_term_matrix(
        [tfidf.weigh_terms([1, 9]), tfidf.weigh_terms([]), tfidf.weigh_terms([7])],
        np.array([1, 2, 9]),
        np.array([1.0, 1.0, 2.0]),
    ).toarray()
    assert made == pytest.approx(np.array([[1, 0, 2], [0, 0, 0], [0, 0, 0]]) / np.sqrt(5))


def test_a_trained_model_adds_it_with_the_weight_that_val_gives(tmp_path: Path) -> None:
    made, about = trained(tmp_path, 400)
    assert about["tfidf_weight"] in temperature_scaling.TFIDF_WEIGHTS
    val = files.read_table(tmp_path / "split" / "val.parquet")
    assert val.num_rows >= temperature_scaling.MIN_ROWS
    info = ModelInfo.read(tmp_path / "model" / "model.json")
    rows = modalities.extract_inputs(made, val)
    losses = {}
    for weight in temperature_scaling.TFIDF_WEIGHTS:
        changes = {"tfidf_weight": weight, "temperature": 1.0}
        served = modalities.open_predictor(tmp_path / "model", info.model_copy(update=changes))
        targets = served.problem.targets(val)
        losses[weight] = temperature_scaling.fit_temperature(
            served.problem, targets, modalities.predict(served, rows)
        )[1]
    assert losses[about["tfidf_weight"]] == pytest.approx(min(losses.values()))
    again = modalities.load_predictor(tmp_path / "model")
    assert modalities.predict(again, rows[:1]) == pytest.approx(
        modalities.predict(again, rows)[:1], abs=1e-5
    )


def test_it_reads_what_the_network_does_not(tmp_path: Path) -> None:
    trained(tmp_path)
    parts = TfidfModel(tmp_path / "model")
    words = " ".join(["word"] * 600)
    assert len(tfidf.tokenize_terms(tmp_path / "model", [words])[0][0]) > 0
    limit = json.loads((tmp_path / "model" / "tokenizer.json").read_text())["truncation"][
        "max_length"
    ]
    counts = np.exp(tfidf.tokenize_terms(tmp_path / "model", [words])[0][1] - 1)
    assert counts.max() > limit
    assert parts([words]).shape == (1, len(modalities.load_predictor(tmp_path / "model").labels))


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        trained(tmp_path / name)
    one, other = (
        hashing.hash_folder(tmp_path / name / "model")[tfidf.TFIDF_FILE]
        for name in ("one", "other")
    )
    assert one == other


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (
            "modality: image\ntrain: {lexical: true}",
            "train.lexical: only a text has words, and this is image: leave it out",
        ),
        ("modality: text\nproblem: multilabel\ntrain: {lexical: true}", "made for one class a row"),
        (
            "modality: text\npretrain: {network: {layers: 1, hidden_size: 16, num_heads: 1}, lexical: true}",
            "lexical is for training with labels",
        ),
    ],
)
def test_where_it_cannot_be_the_recipe_says_so(recipe: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "made.yaml").write_text(
        f"name: made\ningest: {{kind: files, path: made.csv}}\n{recipe}\ngate: [{{rule: floor, metric: macro_f1, bound: 0.5}}]\n"
    )
    with pytest.raises(ConfigError, match=told):
        read_recipe(tmp_path / "made.yaml")
