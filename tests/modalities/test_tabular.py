"""Tables: how columns are encoded, and the model that learns from them."""

import datetime
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import evaluate, modalities
from tasks import train as tasks_train
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.model_info import CategoryColumn
from tasks.core.errors import StageError
from tasks.gating import verdict
from tasks.modalities import tabular
from tasks.modalities.tabular import TabularTrainer
from tasks.recipe.loading import read_recipe
from tasks.recipe.train import Train
from tasks.storage.layout import StagePaths
from tasks.training import loop
from tasks.training.training_data import TrainingData
from tests import tiny
from tests.cleaning.dirty_tables import cleaned
from tests.conftest import ROOT


def test_the_model_learns_what_no_linear_model_can_and_answers_alike_after_export(
    here: Path,
) -> None:
    (here / "data" / "sources").mkdir(parents=True)
    (here / "data" / "sources" / "xor.csv").write_bytes(
        (ROOT / "data" / "sources" / "xor.csv").read_bytes()
    )
    made = read_recipe(ROOT / "recipes" / "xor.yaml")
    folder = here / "data" / "xor"
    cleaned(made, folder)
    tasks_train.run(made, StagePaths(folder), here / "checkpoints")
    evaluate.run(made, StagePaths(folder))
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    assert metrics["accuracy"]["value"] == 1.0
    assert metrics["baseline"]["accuracy"]["value"] < 0.8
    assert verdict.judge_model(made, StagePaths(folder), None).verdict == "promote"
    predictor = modalities.load_predictor(folder / "model", 1)
    asked = predictor([{"a": a, "b": b} for a in (0, 1) for b in (0, 1)])
    assert asked.argmax(1).tolist() == [0, 1, 1, 0]
    assert np.allclose(
        asked, predictor([{"a": str(a), "b": float(b)} for a in (0, 1) for b in (0, 1)])
    )


def rows(count: int = 400) -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [
        {
            "text": str(draw.random()) if number % 4 else None,
            "typed": draw.choice([1, 2]),
            "zip": f"0{draw.randint(1000, 1100)}",
            "day": datetime.date(2026, 1, 1) + datetime.timedelta(number),
            "colour": draw.choice(["red", "green", None]) if number else "mauve",
            "ok": draw.random() < 0.5,
            "constant": "x",
        }
        for number in range(count)
    ]


def test_columns_are_numbers_or_categories_by_type_or_by_what_they_hold() -> None:
    columns = {column.name: column for column in tabular.infer_columns(rows())}
    assert {name: column.kind for name, column in columns.items()} == {
        "text": "number",
        "typed": "number",
        "zip": "category",
        "day": "number",
        "colour": "category",
        "ok": "category",
    }
    colour = columns["colour"]
    assert isinstance(colour, CategoryColumn)
    assert colour.values == [None, "green", "red"]


def test_what_was_rare_or_not_there_in_training_has_a_place_and_nothing_breaks() -> None:
    columns = tabular.infer_columns(rows())
    known = tabular.encode_features(columns, rows())
    odd: list[dict[str, Any]] = [
        {"text": "1e999", "typed": float("inf"), "colour": "blue", "zip": 5, "day": "2026-01-31"},
        {},
        {"text": "3", "typed": 1e300},
    ]
    made = tabular.encode_features(columns, odd)
    assert np.isfinite(made).all() and np.abs(made).max() <= tabular.CLIP_STD
    assert made.shape == (3, known.shape[1])
    at = [
        column.name
        for column in columns
        for _ in range(tabular.encode_features([column], odd).shape[1])
    ]
    assert not made[0, [name in ("colour", "zip") for name in at]].any()
    number, gap = known[:, :2].T
    assert gap.sum() == 100
    assert abs(number[gap == 0].mean()) < 1e-6 and abs(number[gap == 0].std() - 1) < 1e-6


def test_a_table_of_free_texts_alone_is_refused() -> None:
    with pytest.raises(
        StageError,
        match=(
            r"no column tells the training rows apart: they have comment; name others in "
            r"columns.features"
        ),
    ):
        tabular.infer_columns([{"comment": f"text {number}"} for number in range(400)])


def test_a_table_in_which_no_column_tells_rows_apart_is_refused() -> None:
    with pytest.raises(
        StageError,
        match=(
            r"no column tells the training rows apart: they have a, b; name others in "
            r"columns.features"
        ),
    ):
        TabularTrainer(Train(), [{"a": "x", "b": None}] * 5, tiny.TWO)


def test_a_feature_that_the_data_lacks_is_named_with_the_nearest(here: Path) -> None:
    made = read_recipe(ROOT / "recipes" / "xor.yaml")
    made = made.model_copy(
        update={"columns": made.columns.model_copy(update={"features": ["a", "bb"]})}
    )
    with pytest.raises(
        StageError,
        match=r"columns.features: the data has no column 'bb' \(did you mean b\?\); it has a, b",
    ):
        modalities.extract_inputs(made, pa.table({"a": [1], "b": [2]}))


def test_the_tumours_have_thirty_measures_and_two_classes(here: Path) -> None:
    made = read_recipe(ROOT / "recipes" / "tumors.yaml")
    table = cleaned(made, here / "data")
    assert (table.num_rows, len(table.column_names)) == (569, 32)
    assert {
        column.kind
        for column in tabular.infer_columns(table.drop_columns(["id", "label"]).to_pylist())
    } == {"number"}


def test_l1_takes_weights_away(tmp_path: Path) -> None:
    data = rows()
    labels = np.array([row["typed"] - 1 for row in data], np.int64)

    def weight(l1: float, folder: Path) -> float:
        section = Train(epochs=3, l1=l1, hidden_sizes=[8], learning_rate=1e-2)
        adapter = TabularTrainer(section, data, tiny.TWO)
        examples = adapter.encode(data)
        loop.fit(adapter, section, TrainingData(examples, labels, examples, labels), folder)
        return float(
            sum(parameter.detach().abs().sum() for parameter in adapter.network.parameters())
        )

    assert weight(0.05, tmp_path / "a") < 0.5 * weight(0.0, tmp_path / "b")
