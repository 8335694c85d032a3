"""Slices: their rows, what is reported of small ones, and where a tree finds the worst answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import evaluate, train
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import ConfigError, StageError
from tasks.evaluation import slices
from tasks.evaluation.base import EvaluationContext
from tasks.problems.base import Problem
from tasks.problems.classification import ClassPredictions
from tasks.problems.regression import RegressionProblem
from tasks.recipe.evaluate import Evaluate, Slice
from tasks.recipe.loading import read_recipe
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tests import tiny


def case(
    folder: Path,
    columns: dict[str, Any],
    right: Any,
    problem: Problem = tiny.TWO,
    modality: str = "tabular",
    **section: Any,
) -> EvaluationContext:
    """Build rows with these columns and a model's answers, of which those in `right` are right."""
    count = len(right)
    table = pa.table({"id": [f"r{n:04d}" for n in range(count)], **columns})
    made: Any = type("Predictor", (), {"problem": problem, "labels": problem.labels})()
    recipe = tiny.recipe(modality, folder).model_copy(
        update={"evaluate": Evaluate.model_validate({"resamples": 200, **section})}
    )
    metric = "macro_f1" if problem is tiny.TWO else "rmse"
    tiny.model_info(modality, train={"metric": metric}).write(folder / "model.json")
    if problem is not tiny.TWO:
        return EvaluationContext(
            recipe,
            ModelFolder(folder),
            made,
            table,
            table,
            table,
            [None] * count,
            np.zeros(count),
            np.asarray(right, float)[:, None],
        )
    targets = np.arange(count) % 2
    answers = np.full((count, 2), 0.2)
    answers[np.arange(count), np.where(right, targets, 1 - targets)] = 0.8
    return EvaluationContext(
        recipe, ModelFolder(folder), made, table, table, table, [None] * count, targets, answers
    )


def test_categories_numbers_and_edges_are_slices_with_intervals(tmp_path: Path) -> None:
    count = 200
    columns = {
        "plan": ["free", "pro"] * 100,
        "age": np.arange(count) / 2.0,
        "code": [str(n) for n in range(count)],
        "kind": [1, 2, 3, 4] * 50,
    }
    right = np.arange(count) >= 40
    made = case(
        tmp_path,
        columns,
        right,
        slices=["plan", "age", "code", "kind", {"column": "id", "values": ["r0001"]}],
    )
    found = slices.measure(made).metrics
    assert set(found) == {"plan", "age", "code", "kind", "id", "worst"}
    assert set(found["plan"]) == {"free", "pro"} and found["plan"]["pro"]["rows"] == 100
    first = found["age"]["quarter 1"]
    assert (first["rows"], first["range"], first["accuracy"]["value"]) == (50, "0.0 to 24.5", 0.2)
    assert first["accuracy"]["low"] < 0.2 < first["accuracy"]["high"]
    assert set(first) == {"rows", "range", "accuracy", "macro_f1", "log_loss"}
    assert found["code"]["quarter 4"]["range"] == "150 to 199"  # numbers, though they came as text
    assert set(found["kind"]) == {"1", "2", "3", "4"}
    assert found["id"] == {"r0001": {"rows": 1}}
    edged = slices.measure(
        case(tmp_path, columns, right, slices=[{"column": "age", "edges": [50, 20.0]}])
    ).metrics["age"]
    assert {name: about["rows"] for name, about in edged.items()} == {
        "up to 20": 41,
        "20 to 50": 60,
        "over 50": 99,
    }
    assert slices.measure(made).metrics == found


def test_a_small_slice_is_listed_without_a_value_and_a_value_that_no_row_has_too(
    tmp_path: Path,
) -> None:
    columns = {"plan": ["free"] * 38 + ["pro"] * 2}
    wanted = {"column": "plan", "values": ["pro", "free", "team"]}
    found = slices.measure(case(tmp_path, columns, np.ones(40, bool), slices=[wanted])).metrics[
        "plan"
    ]
    assert found["pro"] == {"rows": 2} and found["team"] == {"rows": 0}
    assert found["free"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (
        slices.measure(
            case(tmp_path, columns, np.ones(40, bool), slices=[wanted], support=2)
        ).metrics["plan"]["pro"]["accuracy"]["value"]
        == 1.0
    )


def test_missing_cells_and_rare_values_are_slices_of_their_own(tmp_path: Path) -> None:
    names = [f"city {n:02d}" for n in range(60)] + [None] * 30 + ["city 00"] * 30
    found = slices.measure(
        case(tmp_path, {"city": names}, np.ones(120, bool), slices=["city"])
    ).metrics["city"]
    assert (
        found["(missing)"]["rows"] == 30
        and found["(others)"]["rows"] == 10
        and found["city 00"]["rows"] == 31
    )
    assert sum(about["rows"] for about in found.values()) == 120


def test_texts_are_cut_by_their_length_unless_the_data_have_such_a_column(tmp_path: Path) -> None:
    texts = ["x" * (n + 1) for n in range(80)]
    found = slices.measure(
        case(
            tmp_path, {"text": texts, "label": ["a", "b"] * 40}, np.arange(80) < 60, modality="text"
        )
    ).metrics
    assert found["length"]["quarter 4"]["range"] == "61 to 80"
    assert found["length"]["quarter 4"]["accuracy"]["value"] == 0.0
    assert "length over" in found["worst"][0]["condition"] and found["worst"][0]["error"] == 1.0
    own = case(
        tmp_path, {"text": texts, "length": ["s", "l"] * 40}, np.arange(80) < 60, modality="text"
    )
    assert set(slices.measure(own).metrics["length"]) == {"s", "l"}


def test_the_tree_finds_the_part_that_is_worst_and_says_it_in_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 1200
    channel, age = (
        rng.choice(["email", "chat", "phone"], count),
        rng.uniform(18, 80, count).round(1),
    )
    bad = (channel == "email") & (age > 60)
    right = rng.random(count) > np.where(bad, 0.7, 0.05)
    found = slices.measure(
        case(tmp_path, {"channel": channel.tolist(), "age": age.tolist()}, right)
    )
    worst = found.metrics["worst"][0]
    rows = np.ones(count, bool)
    for part in worst["condition"].split(" and "):  # what it says in words is what it counted
        name, value = part.rsplit(" ", 1)
        rows &= (
            channel == value
            if name == "channel is"
            else age > float(value)
            if name == "age over"
            else age <= float(value)
        )
    assert "channel is email" in worst["condition"]
    assert (bad[rows].mean(), rows.sum()) == (1.0, worst["rows"])
    assert worst["error"] == pytest.approx((~right[rows]).mean(), abs=1e-6)
    assert found.report["error"] == pytest.approx((~right).mean())


def test_errors_that_lie_nowhere_in_particular_have_no_worst_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    columns = {"a": rng.normal(size=400).tolist(), "b": rng.choice(["x", "y"], 400).tolist()}
    assert slices.measure(case(tmp_path, columns, np.ones(400, bool))).metrics == {"worst": []}
    assert slices.measure(case(tmp_path, {"a": [1.0] * 10}, np.arange(10) < 5)).metrics == {
        "worst": []
    }  # ten rows tell nothing


def test_of_numbers_that_are_predicted_the_absolute_error_counts(tmp_path: Path) -> None:
    errors = np.where(np.arange(100) < 50, 1.0, 5.0)
    made = case(
        tmp_path,
        {"side": ["left"] * 50 + ["right"] * 50},
        errors,
        RegressionProblem(["value"]),
        slices=["side"],
    )
    found = slices.measure(made).metrics
    assert (
        found["side"]["right"]["mae"]["value"] == 5.0
        and found["side"]["left"]["rmse"]["value"] == 1.0
    )
    assert found["worst"] == [{"condition": "side is right", "error": 5.0, "rows": 50}]


def test_a_column_that_the_data_do_not_have_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        StageError,
        match=r"evaluate.slices: the data has no column 'chanel' "
        r"\(did you mean channel\?\); it has id, channel.",
    ):
        slices.measure(case(tmp_path, {"channel": ["a"] * 4}, np.ones(4, bool), slices=["chanel"]))


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            "[plan, {column: plan, values: [pro]}]",
            "evaluate.slices: has 'plan' twice: put its values or edges into one.",
        ),
        (
            "[{column: age, edges: [3], values: [4]}]",
            "evaluate.slices[0]: has values and edges: "
            "write values for categories, or edges for numbers.",
        ),
        ("[{colum: age}]", "evaluate.slices[0].colum: is not a known key (did you mean column?)"),
        ("plan", "evaluate.slices: 'plan': input should be a valid list."),
    ],
)
def test_slices_that_cannot_be_are_sentences(wanted: str, sentence: str, tmp_path: Path) -> None:
    text = (
        "name: x\nmodality: tabular\ningest: {kind: files, path: x.csv}\n"
        "gate: [{rule: floor, metric: accuracy, bound: 0.5}]\n"
    )
    (tmp_path / "recipe.yaml").write_text(text + f"evaluate: {{slices: {wanted}}}\n")
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert sentence in str(caught.value)


def test_a_recipe_may_name_a_column_or_say_more_of_it(tmp_path: Path) -> None:
    assert Evaluate.model_validate(
        {"slices": ["plan", {"column": "age", "edges": [25, 65.5]}]}
    ).slices == [
        Slice(column="plan"),
        Slice(column="age", edges=[25, 65.5]),
    ]


@pytest.mark.parametrize("modality", ["text", "image", "tabular", "causal_lm"])
def test_every_modality_is_evaluated_with_a_test_split_of_ten_rows(
    modality: str, tmp_path: Path
) -> None:
    if modality == "text":
        tiny.base(tmp_path / "base")
    if modality == "causal_lm":
        tiny.decoder(tmp_path / "base")
    made = tiny.recipe(modality, tmp_path, epochs=1)
    made = made.model_copy(
        update={
            "evaluate": Evaluate.model_validate(
                {"resamples": 100, "slices": ["label"], "sensitive": ["label"]}
            )
        }
    )
    source = tiny.split(modality, tmp_path / "split")
    files.write_table(source / "test.parquet", tiny.table(modality, 900, 10))
    train.run(made, StagePaths(tmp_path), tmp_path / "checkpoints")
    bytes_ = []
    for _ in range(2):
        evaluate.run(made, StagePaths(tmp_path))
        bytes_.append((tmp_path / "evaluation" / "metrics.json").read_bytes())
    assert bytes_[0] == bytes_[1]
    metrics = Evaluation.read(tmp_path / "evaluation" / "metrics.json").numbers()
    assert sum(about["rows"] for about in metrics["slices"]["label"].values()) == 10
    assert all(set(about) == {"rows"} for about in metrics["slices"]["label"].values())
    assert (
        metrics["slices"]["worst"] == []
        and metrics["fairness"]["label"]["groups"].keys() == metrics["slices"]["label"].keys()
    )
    assert ("calibration" in metrics) == (modality != "causal_lm")
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert "too few" in page and "Fairness" in page


def test_said_of_some_rows_is_what_was_said_of_them() -> None:
    said = tiny.TWO.compact_predictions(
        np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    )
    part = tiny.TWO.take(said, np.array([True, False, True]))
    assert isinstance(part, ClassPredictions) and part.probabilities is not None
    assert part.predicted.tolist() == [0, 1] and part.probabilities.tolist() == [
        [0.9, 0.1],
        [0.2, 0.8],
    ]
