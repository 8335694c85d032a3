"""Slices: which rows are in which, what small ones show, and where a tree finds the model worst."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import evaluate, train
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import ConfigError, StageError
from tasks.evaluation import slices
from tasks.evaluation.base import EvaluationContext
from tasks.problems.base import Problem, Targets
from tasks.problems.classification import ClassPredictions
from tasks.problems.regression import RegressionProblem
from tasks.recipe.evaluate import Evaluate, Slice
from tasks.recipe.loading import read_recipe
from tasks.statistics.array_types import Flags, Floats
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tests import tiny

Columns = dict[str, Any]

RECIPE = """name: x
modality: tabular
ingest: {kind: files, path: x.csv}
gate: [{rule: floor, metric: accuracy, bound: 0.5}]
"""


def make_case(
    folder: Path,
    columns: Columns,
    targets: Targets,
    answers: Floats,
    problem: Problem = tiny.TWO,
    modality: str = "tabular",
    **section: Any,
) -> EvaluationContext:
    """Make a case of test rows with ids and these columns, and write a model's description."""
    metric = "macro_f1" if problem is tiny.TWO else "rmse"
    tiny.model_info(modality, train={"metric": metric}).write(folder / "model.json")
    predictor: Any = SimpleNamespace(problem=problem, labels=problem.labels)
    config = Evaluate.model_validate({"resamples": 200, **section})
    ids = [f"r{row:04d}" for row in range(len(targets))]
    table = pa.table({"id": ids, **columns})
    return EvaluationContext(
        recipe=tiny.recipe(modality, folder).model_copy(update={"evaluate": config}),
        model=ModelFolder(folder),
        predictor=predictor,
        train=table,
        val=table,
        test=table,
        inputs=[None] * len(targets),
        targets=targets,
        answers=answers,
    )


def classify(
    folder: Path,
    columns: Columns,
    is_correct: Flags,
    modality: str = "tabular",
    **section: Any,
) -> EvaluationContext:
    """Make a case of two classes, some of whose rows are predicted correctly."""
    rows = np.arange(len(is_correct))
    targets = rows % 2
    answers = np.full((len(rows), 2), 0.2)
    answers[rows, np.where(is_correct, targets, 1 - targets)] = 0.8
    return make_case(folder, columns, targets, answers, modality=modality, **section)


def test_categories_and_quarters_of_numbers_are_slices_with_intervals(tmp_path: Path) -> None:
    columns = {
        "plan": ["free", "pro"] * 100,
        "age": np.arange(200) / 2.0,
        "code": [str(row) for row in range(200)],  # numbers as text
        "kind": [1, 2, 3, 4] * 50,
    }
    wanted = ["plan", "age", "code", "kind", {"column": "id", "values": ["r0001"]}]
    case = classify(tmp_path, columns, np.arange(200) >= 40, slices=wanted)
    metrics = slices.measure(case).metrics
    assert set(metrics) == {"plan", "age", "code", "kind", "id", "worst"}
    assert set(metrics["plan"]) == {"free", "pro"}
    assert metrics["plan"]["pro"]["rows"] == 100
    quarter = metrics["age"]["quarter 1"]
    assert set(quarter) == {"rows", "range", "accuracy", "macro_f1", "log_loss"}
    assert quarter["rows"] == 50
    assert quarter["range"] == "0.0 to 24.5"
    assert quarter["accuracy"]["value"] == 0.2
    assert quarter["accuracy"]["low"] < 0.2 < quarter["accuracy"]["high"]
    assert metrics["code"]["quarter 4"]["range"] == "150 to 199"
    assert set(metrics["kind"]) == {"1", "2", "3", "4"}
    assert metrics["id"] == {"r0001": {"rows": 1}}
    assert slices.measure(case).metrics == metrics


def test_edges_cut_a_column_of_numbers(tmp_path: Path) -> None:
    columns = {"age": np.arange(200) / 2.0}
    wanted = {"column": "age", "edges": [50, 20.0]}
    case = classify(tmp_path, columns, np.arange(200) >= 40, slices=[wanted])
    metrics = slices.measure(case).metrics["age"]
    rows = {name: metrics_of_slice["rows"] for name, metrics_of_slice in metrics.items()}
    assert rows == {"up to 20": 41, "20 to 50": 60, "over 50": 99}


def test_a_slice_with_few_or_no_rows_is_listed_without_a_metric(tmp_path: Path) -> None:
    columns = {"plan": ["free"] * 38 + ["pro"] * 2}
    wanted = {"column": "plan", "values": ["pro", "free", "team"]}
    is_correct = np.ones(40, bool)
    case = classify(tmp_path, columns, is_correct, slices=[wanted])
    metrics = slices.measure(case).metrics["plan"]
    assert metrics["pro"] == {"rows": 2}
    assert metrics["team"] == {"rows": 0}
    assert metrics["free"]["accuracy"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    case = classify(tmp_path, columns, is_correct, slices=[wanted], support=2)
    metrics = slices.measure(case).metrics["plan"]
    assert metrics["pro"]["accuracy"]["value"] == 1.0


def test_missing_cells_and_rare_values_are_slices_of_their_own(tmp_path: Path) -> None:
    cities = [f"city {number:02d}" for number in range(60)] + [None] * 30 + ["city 00"] * 30
    case = classify(tmp_path, {"city": cities}, np.ones(120, bool), slices=["city"])
    metrics = slices.measure(case).metrics["city"]
    assert metrics["(missing)"]["rows"] == 30
    assert metrics["(others)"]["rows"] == 10
    assert metrics["city 00"]["rows"] == 31
    assert sum(metrics_of_slice["rows"] for metrics_of_slice in metrics.values()) == 120


def test_texts_are_cut_by_their_length_unless_the_data_have_such_a_column(tmp_path: Path) -> None:
    texts = ["x" * (row + 1) for row in range(80)]
    is_correct = np.arange(80) < 60
    columns = {"text": texts, "label": ["a", "b"] * 40}
    metrics = slices.measure(classify(tmp_path, columns, is_correct, modality="text")).metrics
    assert metrics["length"]["quarter 4"]["range"] == "61 to 80"
    assert metrics["length"]["quarter 4"]["accuracy"]["value"] == 0.0
    assert "length over" in metrics["worst"][0]["condition"]
    assert metrics["worst"][0]["error"] == 1.0
    columns = {"text": texts, "length": ["s", "l"] * 40}
    metrics = slices.measure(classify(tmp_path, columns, is_correct, modality="text")).metrics
    assert set(metrics["length"]) == {"s", "l"}


def find_rows(condition: str, channel: np.ndarray, age: np.ndarray) -> Flags:
    """Find the rows that a condition in words describes."""
    rows = np.ones(len(age), bool)
    for part in condition.split(" and "):
        words, value = part.rsplit(" ", 1)
        if words == "channel is":
            rows &= channel == value
        elif words == "age over":
            rows &= age > float(value)
        else:
            rows &= age <= float(value)
    return rows


def test_the_tree_finds_the_worst_rows_and_describes_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    channel = rng.choice(["email", "chat", "phone"], 1200)
    age = rng.uniform(18, 80, 1200).round(1)
    is_hard = (channel == "email") & (age > 60)
    is_correct = rng.random(1200) > np.where(is_hard, 0.7, 0.05)
    columns = {"channel": channel.tolist(), "age": age.tolist()}
    result = slices.measure(classify(tmp_path, columns, is_correct))
    worst = result.metrics["worst"][0]
    rows = find_rows(worst["condition"], channel, age)
    assert "channel is email" in worst["condition"]
    assert is_hard[rows].all()
    assert rows.sum() == worst["rows"]
    assert worst["error"] == pytest.approx((~is_correct[rows]).mean(), abs=1e-6)
    assert result.report["error"] == pytest.approx((~is_correct).mean())


def test_without_errors_there_are_no_worst_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    columns = {"a": rng.normal(size=400).tolist(), "b": rng.choice(["x", "y"], 400).tolist()}
    case = classify(tmp_path, columns, np.ones(400, bool))
    assert slices.measure(case).metrics == {"worst": []}


def test_among_ten_rows_there_are_no_worst_ones(tmp_path: Path) -> None:
    case = classify(tmp_path, {"a": [1.0] * 10}, np.arange(10) < 5)
    assert slices.measure(case).metrics == {"worst": []}


def test_in_regression_the_absolute_error_counts(tmp_path: Path) -> None:
    errors = np.where(np.arange(100) < 50, 1.0, 5.0)
    columns = {"side": ["left"] * 50 + ["right"] * 50}
    problem = RegressionProblem(["value"])
    case = make_case(tmp_path, columns, np.zeros(100), errors[:, None], problem, slices=["side"])
    metrics = slices.measure(case).metrics
    assert metrics["side"]["right"]["mae"]["value"] == 5.0
    assert metrics["side"]["left"]["rmse"]["value"] == 1.0
    assert metrics["worst"] == [{"condition": "side is right", "error": 5.0, "rows": 50}]


def test_a_column_that_the_data_do_not_have_is_named_with_the_nearest(tmp_path: Path) -> None:
    case = classify(tmp_path, {"channel": ["a"] * 4}, np.ones(4, bool), slices=["chanel"])
    sentence = (
        r"evaluate.slices: the data has no column 'chanel' \(did you mean channel\?\); "
        r"it has id, channel."
    )
    with pytest.raises(StageError, match=sentence):
        slices.measure(case)


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
def test_invalid_slices_are_refused_in_a_sentence(
    wanted: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(f"{RECIPE}evaluate: {{slices: {wanted}}}\n")
    with pytest.raises(ConfigError) as error:
        read_recipe(tmp_path / "recipe.yaml")
    assert sentence in str(error.value)


def test_a_recipe_may_name_a_column_or_describe_its_slices() -> None:
    section = {"slices": ["plan", {"column": "age", "edges": [25, 65.5]}]}
    plan = Slice(column="plan")
    age = Slice(column="age", edges=[25, 65.5])
    assert Evaluate.model_validate(section).slices == [plan, age]


def train_with_ten_test_rows(modality: str, folder: Path) -> StagePaths:
    """Train a model, and evaluate it on ten rows with slices and sensitive columns."""
    paths = StagePaths(folder)
    if modality == "text":
        tiny.base(folder / "base")
    if modality == "causal_lm":
        tiny.decoder(folder / "base")
    section = {"resamples": 100, "slices": ["label"], "sensitive": ["label"]}
    recipe = tiny.recipe(modality, folder, epochs=1)
    recipe = recipe.model_copy(update={"evaluate": Evaluate.model_validate(section)})
    tiny.split(modality, paths.split.path)
    files.write_table(paths.split.test, tiny.table(modality, 900, 10))
    train.run(recipe, paths, folder / "checkpoints")
    evaluate.run(recipe, paths)
    metrics = paths.evaluation.metrics.read_bytes()
    evaluate.run(recipe, paths)
    assert paths.evaluation.metrics.read_bytes() == metrics
    return paths


@pytest.mark.parametrize("modality", ["text", "image", "tabular", "causal_lm"])
def test_every_modality_is_evaluated_with_a_test_split_of_ten_rows(
    modality: str, tmp_path: Path
) -> None:
    paths = train_with_ten_test_rows(modality, tmp_path)
    metrics = Evaluation.read(paths.evaluation.metrics).numbers()
    by_label = metrics["slices"]["label"]
    assert sum(metrics_of_slice["rows"] for metrics_of_slice in by_label.values()) == 10
    assert all(set(metrics_of_slice) == {"rows"} for metrics_of_slice in by_label.values())
    assert metrics["slices"]["worst"] == []
    assert metrics["fairness"]["label"]["groups"].keys() == by_label.keys()
    assert ("calibration" in metrics) == (modality != "causal_lm")
    page = paths.evaluation.page.read_text()
    assert "too few" in page
    assert "Fairness" in page


def test_predictions_of_some_rows_are_taken_from_those_of_all() -> None:
    targets = np.array([0, 1, 1])
    answers = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    predictions = tiny.TWO.compact_predictions(targets, answers)
    part = tiny.TWO.take(predictions, np.array([True, False, True]))
    assert isinstance(part, ClassPredictions)
    assert part.probabilities is not None
    assert part.predicted.tolist() == [0, 1]
    assert part.probabilities.tolist() == [[0.9, 0.1], [0.2, 0.8]]
