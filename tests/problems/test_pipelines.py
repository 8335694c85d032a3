"""Regression and multilabel from real rows to the gate, beside scikit-learn's metrics."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from tasks import modalities
from tasks import train as train_stage
from tasks.contracts.evaluation import Evaluation
from tasks.gating import verdict
from tasks.gating.champion import Champion
from tasks.modalities import onnx, tabular
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.sources.package import read_botocore_operations
from tasks.statistics.array_types import Flags
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tests import tiny
from tests.problems.helpers import DIABETES, OPERATIONS

SERVICES = ("iam", "ecs")
VERBS = ("Create", "Delete", "Update", "List")


def run_pipeline(here: Path, text: str) -> tuple[Recipe, Path]:
    """Run a recipe through all stages; the gate compares the model with itself."""
    (here / "recipe.yaml").write_text(text)
    recipe = read_recipe(here / "recipe.yaml")
    folder = here / "data"
    tiny.through(recipe, folder, here / "checkpoints")
    champion = Champion(ModelFolder(folder / "model"), "v1")
    verdict.judge_model(recipe, StagePaths(folder), champion).write(folder / "gate.json")
    return recipe, folder


def write_diabetes(here: Path) -> None:
    """Write the table of diabetes that scikit-learn has."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    with (here / "source.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*data.feature_names, "label"])
        writer.writerows(np.column_stack([data.data, data.target]).tolist())


def write_operations(here: Path) -> None:
    """Write texts about operations of AWS services, labelled with the service and the verb."""
    with (here / "source.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        for row in read_botocore_operations():
            if row["service"] not in SERVICES:
                continue
            verbs = [verb.lower() for verb in VERBS if str(row["operation"]).startswith(verb)]
            writer.writerow([row["id"], row["text"], "|".join([str(row["service"]), *verbs])])


def read_label_matrix(predictions: pa.Table, column: str, names: list[str]) -> Flags:
    """Read a column of labels as `[rows, labels]`."""
    rows = []
    for cell in predictions[column].to_pylist():
        labels = cell.split("|")
        rows.append([name in labels for name in names])
    return np.array(rows)


def test_a_number_is_predicted_from_the_data_to_the_gate(here: Path) -> None:
    write_diabetes(here)
    recipe, folder = run_pipeline(here, DIABETES)
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet")
    targets = predictions["label"].to_numpy()
    predicted = predictions["predicted"].to_numpy()
    expected = {
        "rmse": root_mean_squared_error(targets, predicted),
        "mae": mean_absolute_error(targets, predicted),
        "r2": r2_score(targets, predicted),
    }
    for name, value in expected.items():
        assert metrics[name]["value"] == pytest.approx(value, abs=1e-6)
        assert metrics[name]["low"] < metrics[name]["value"] < metrics[name]["high"]
    assert metrics["r2"]["value"] > 0.35
    assert metrics["baseline"]["r2"]["value"] > 0.35
    columns = ["id", "label", "predicted", "loss", "baseline_predicted", "baseline_loss"]
    assert predictions.column_names == columns
    checks = files.read_json(folder / "gate.json")["checks"]
    assert [check["metric"] for check in checks] == ["r2", "rmse", "rmse"]
    assert [check["outcome"] for check in checks][::2] == ["pass", "pass"]
    against_itself = checks[2]
    assert (against_itself["value"], against_itself["low"]) == (0.0, 0.0)
    split_report = files.read_json(folder / "split" / "report.json")
    assert all(len(counts) == 5 for counts in split_report["classes"].values())
    assert "Fifths of the target" in (folder / "evaluation" / "report.html").read_text()
    assert_graph_answers_in_unit_of_target(recipe, folder, predicted)


def assert_graph_answers_in_unit_of_target(recipe: Recipe, folder: Path, predicted: Any) -> None:
    """The exported graph alone, without our predictor, gives the predicted numbers."""
    session: Any = onnx.open_session(folder / "model" / "model.onnx", 1)
    predictor: Any = modalities.load_predictor(folder / "model")
    rows = modalities.extract_inputs(recipe, files.read_table(folder / "split" / "test.parquet"))
    features = tabular.encode_features(predictor.columns, rows)
    outputs = session.run(None, {"features": features})[0]
    assert outputs[:, 0] == pytest.approx(predicted, rel=1e-5)


def test_several_labels_are_predicted_from_the_data_to_the_gate(here: Path) -> None:
    write_operations(here)
    _, folder = run_pipeline(here, OPERATIONS)
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet")
    names = files.read_json(folder / "model" / "model.json")["labels"]
    assert names == ["create", "delete", "ecs", "iam", "list", "update"]
    actual = read_label_matrix(predictions, "label", names)
    predicted = read_label_matrix(predictions, "predicted", names)
    probabilities = np.array(predictions["probabilities"].to_pylist())
    assert (predicted == (probabilities >= 0.5)).all()
    losses = [log_loss(*pair) for pair in zip(actual.T, probabilities.T, strict=True)]
    expected = {
        "micro_f1": f1_score(actual, predicted, average="micro"),
        "macro_f1": f1_score(actual, predicted, average="macro"),
        "subset_accuracy": accuracy_score(actual, predicted),
        "mean_average_precision": average_precision_score(actual, probabilities, average="macro"),
        "log_loss": np.mean(losses),
    }
    for name, value in expected.items():
        assert metrics[name]["value"] == pytest.approx(value, abs=2e-6)
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"]
    assert metrics["micro_f1"]["value"] > 0.8
    assert metrics["classes"]["iam"]["support"] == actual[:, names.index("iam")].sum()
    floor, against_itself = files.read_json(folder / "gate.json")["checks"]
    assert floor["value"] == metrics["micro_f1"]["value"]
    assert against_itself["metric"] == "subset_accuracy"
    assert (against_itself["outcome"], against_itself["value"]) == ("pass", 0.0)
    assert "Labels" in (folder / "evaluation" / "report.html").read_text()


def relabel_split(folder: Path, modality: str, positive: str, negative: str) -> pa.Table:
    """Write a split whose labels are these; return its validation rows."""
    source = tiny.split(modality, folder / "split")
    table = None
    for split in ("train", "val"):
        table = files.read_table(source / f"{split}.parquet")
        is_positive = [name == "yes" for name in table["label"].to_pylist()]
        labels = pa.array([positive if flag else negative for flag in is_positive])
        table = table.set_column(table.column_names.index("label"), "label", labels)
        files.write_table(source / f"{split}.parquet", table)
    return table


@pytest.mark.parametrize(
    ("problem", "modality"),
    [("regression", "image"), ("multilabel", "image"), ("multilabel", "tabular")],
)
def test_images_and_tables_learn_these_problems_too(
    problem: str, modality: str, tmp_path: Path
) -> None:
    metric = "rmse" if problem == "regression" else "micro_f1"
    labels = ("2.5", "-1") if problem == "regression" else ("a|b", "[]")
    options: dict[str, Any] = {
        "learning_rate": 1e-2,
        "precision": "fp32",
        "checkpoint_seconds": 30.0,
    }
    recipe = tiny.recipe(modality, tmp_path, epochs=10, **options)
    config = recipe.train.model_copy(update={"metric": metric})
    recipe = recipe.model_copy(update={"problem": problem, "train": config})
    table = relabel_split(tmp_path, modality, *labels)
    train_stage.run(recipe, StagePaths(tmp_path), tmp_path / "checkpoints")
    predictor = modalities.load_predictor(tmp_path / "model")
    answers = modalities.predict(predictor, modalities.extract_inputs(recipe, table))
    value = predictor.problem.measure(predictor.problem.targets(table), answers)[metric]
    lines = (tmp_path / "model" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line)[f"val_{metric}"] for line in lines]
    best = min(history) if metric == "rmse" else max(history)
    assert value == pytest.approx(best, abs=1e-4)
    assert value < 1.0 if metric == "rmse" else value > 0.5
