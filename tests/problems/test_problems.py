"""Multilabel and regression: from real rows to the gate, their metrics, and bad labels.

The metrics are compared with scikit-learn's.
"""

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

from tasks import clean, ingest, label, modalities, split
from tasks import train as tasks_train
from tasks.checks import profile
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import ConfigError, StageError
from tasks.gating import verdict
from tasks.gating.champion import Champion
from tasks.modalities import onnx, tabular
from tasks.problems.classification import ClassificationProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.rows import label_values, leakage_check
from tasks.sources.package import read_botocore_operations
from tasks.statistics import intervals
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tests import tiny

DIABETES = """name: diabetes
modality: tabular
problem: regression
ingest: {kind: files, path: source.csv}
train: {batch_size: 32, hidden_sizes: [16], epochs: 60, learning_rate: 0.003, dropout: 0.0}
evaluate: {resamples: 200}
gate:
  - {rule: floor, metric: r2, bound: 0.3}
  - {rule: baseline, margin: 0.0}
  - {rule: champion, margin: 5.0}
"""
OPERATIONS = """name: operations
modality: text
problem: multilabel
ingest: {kind: files, path: source.csv}
columns: {id: id}
clean: {rules: [html, white_space, exact_duplicates]}
train: {epochs: 1, max_length: 32}
evaluate: {resamples: 200}
gate:
  - {rule: floor, metric: micro_f1, bound: 0.3}
  - {rule: champion, metric: subset_accuracy, margin: 0.2}
"""


def whole(here: Path, text: str) -> tuple[Recipe, Path]:
    """The recipe through all steps."""
    (here / "recipe.yaml").write_text(text)
    made, folder = read_recipe(here / "recipe.yaml"), here / "data"
    tiny.through(made, folder, here / "checkpoints")
    champion = Champion(ModelFolder(folder / "model"), "v1")
    verdict.judge_model(made, StagePaths(folder), champion).write(folder / "gate.json")
    return made, folder


def diabetes(here: Path) -> None:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    lines = [
        ",".join([*data.feature_names, "label"]),
        *(
            ",".join(map(str, [*cells, target]))
            for cells, target in zip(data.data, data.target, strict=True)
        ),
    ]
    (here / "source.csv").write_text("\n".join(lines) + "\n")


def operations(here: Path) -> None:
    """Write the documentation of operations of three services, tagged with service and verb."""
    rows = []
    for row in read_botocore_operations():
        does = [
            verb
            for verb in ("Create", "Delete", "Update", "List")
            if str(row["operation"]).startswith(verb)
        ]
        if row["service"] in ("iam", "ecs"):
            rows.append(
                [row["id"], row["text"], "|".join([str(row["service"]), *map(str.lower, does)])]
            )
    with (here / "source.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text", "label"], *rows])


def test_a_number_is_predicted_from_the_data_to_the_gate(here: Path) -> None:
    diabetes(here)
    made, folder = whole(here, DIABETES)
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet")
    truth, said = (predictions[name].to_numpy() for name in ("label", "predicted"))
    assert metrics["rmse"]["value"] == pytest.approx(root_mean_squared_error(truth, said), abs=1e-6)
    assert metrics["mae"]["value"] == pytest.approx(mean_absolute_error(truth, said), abs=1e-6)
    assert metrics["r2"]["value"] == pytest.approx(r2_score(truth, said), abs=1e-6)
    assert metrics["r2"]["value"] > 0.35 and metrics["baseline"]["r2"]["value"] > 0.35
    assert all(
        metrics[name]["low"] < metrics[name]["value"] < metrics[name]["high"]
        for name in ("rmse", "mae", "r2")
    )
    assert predictions.column_names == [
        "id",
        "label",
        "predicted",
        "loss",
        "baseline_predicted",
        "baseline_loss",
    ]
    session = onnx.open_session(folder / "model" / "model.onnx", 1)
    predictor = modalities.load_predictor(folder / "model")
    rows = modalities.extract_inputs(made, files.read_table(folder / "split" / "test.parquet"))
    bare = session.run(None, {"features": tabular.encode_features(predictor.columns, rows)})[0]  # type: ignore[attr-defined]
    assert bare[:, 0] == pytest.approx(
        said, rel=1e-5
    )  # the exported graph alone answers in the target's unit
    checks = files.read_json(folder / "gate.json")["checks"]
    assert [check["metric"] for check in checks] == ["r2", "rmse", "rmse"]
    assert [check["outcome"] for check in checks][::2] == ["pass", "pass"]
    assert (checks[2]["value"], checks[2]["low"]) == (0.0, 0.0)  # against itself
    told = files.read_json(folder / "split" / "report.json")
    assert all(len(counts) == 5 for counts in told["classes"].values())
    assert "Fifths of the target" in (folder / "evaluation" / "report.html").read_text()


def test_several_labels_are_predicted_from_the_data_to_the_gate(here: Path) -> None:
    operations(here)
    _, folder = whole(here, OPERATIONS)
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet")
    names = files.read_json(folder / "model" / "model.json")["labels"]
    assert names == ["create", "delete", "ecs", "iam", "list", "update"]
    truth, said = (
        np.array(
            [
                [name in cell.split("|") for name in names]
                for cell in predictions[column].to_pylist()
            ]
        )
        for column in ("label", "predicted")
    )
    shares = np.array(predictions["probabilities"].to_pylist())
    assert (said == (shares >= 0.5)).all()
    expected = {
        "micro_f1": f1_score(truth, said, average="micro"),
        "macro_f1": f1_score(truth, said, average="macro"),
        "subset_accuracy": accuracy_score(truth, said),
        "mean_average_precision": average_precision_score(truth, shares, average="macro"),
        "log_loss": np.mean(
            [log_loss(truth[:, column], shares[:, column]) for column in range(len(names))]
        ),
    }
    assert {name: metrics[name]["value"] for name in expected} == pytest.approx(expected, abs=2e-6)
    assert metrics["micro_f1"]["value"] > 0.8
    assert metrics["classes"]["iam"]["support"] == truth[:, names.index("iam")].sum()
    assert all(
        one["low"] <= one["value"] <= one["high"] for one in (metrics[name] for name in expected)
    )
    checks = files.read_json(folder / "gate.json")["checks"]
    assert (checks[1]["metric"], checks[1]["outcome"], checks[1]["value"]) == (
        "subset_accuracy",
        "pass",
        0.0,
    )  # against itself
    assert checks[0]["value"] == metrics["micro_f1"]["value"]
    assert "Labels" in (folder / "evaluation" / "report.html").read_text()


@pytest.mark.parametrize(
    ("problem", "modality"),
    [("regression", "image"), ("multilabel", "image"), ("multilabel", "tabular")],
)
def test_images_and_tables_learn_these_problems_too(
    problem: str, modality: str, tmp_path: Path
) -> None:
    metric, yes, no = (
        ("rmse", "2.5", "-1") if problem == "regression" else ("micro_f1", "a|b", "[]")
    )
    made = tiny.recipe(
        modality, tmp_path, epochs=10, learning_rate=1e-2, precision="fp32", checkpoint_seconds=30.0
    )
    made = made.model_copy(
        update={"problem": problem, "train": made.train.model_copy(update={"metric": metric})}
    )
    source = tiny.split(modality, tmp_path / "split")
    for side in ("train", "val"):
        table = files.read_table(source / f"{side}.parquet")
        labels = pa.array([yes if name == "yes" else no for name in table["label"].to_pylist()])
        table = table.set_column(table.column_names.index("label"), "label", labels)
        files.write_table(source / f"{side}.parquet", table)
    tasks_train.run(made, StagePaths(tmp_path), tmp_path / "checkpoints")
    predictor = modalities.load_predictor(tmp_path / "model")
    targets, answers = (
        predictor.problem.targets(table),
        modalities.predict(predictor, modalities.extract_inputs(made, table)),
    )
    measured = predictor.problem.measure(targets, answers)
    kept = [
        json.loads(line)[f"val_{metric}"]
        for line in (tmp_path / "model" / "history.jsonl").read_text().splitlines()
    ]
    assert measured[metric] == pytest.approx(
        min(kept) if metric == "rmse" else max(kept), abs=1e-4
    )  # the exported model is the best epoch's
    assert measured[metric] < 1.0 if metric == "rmse" else measured[metric] > 0.5


def test_intervals_of_any_problem_cover_and_repeat_and_pairs_share_their_resamples() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=800)
    said = targets + rng.normal(size=800)
    problem = RegressionProblem(["value"])
    one, other = (
        problem.bootstrap_metric("rmse", targets, [said, said + 0.01], Evaluate()) for _ in range(2)
    )
    assert (one == other).all()
    low, high = intervals.percentile_bounds(one[:, 0], 0.95)
    assert low < 1 < high and high - low == pytest.approx(2 * 1.96 / 1600**0.5, rel=0.2)
    assert np.std(one[:, 0] - one[:, 1]) < np.std(one[:, 0]) / 10


def test_a_champion_of_other_labels_is_asked_for_those_that_it_knows() -> None:
    problem = MultilabelProblem(["a", "b", "c"])
    assert problem.align_labels(np.array([[0.9, 0.2]]), ["c", "a"]).tolist() == [[0.2, 0.0, 0.9]]
    classes = ClassificationProblem(["a", "b"])
    scored = classes.compact_predictions(
        np.array([0, 1]),
        classes.align_labels(np.array([[0.1, 0.2, 0.7], [0.1, 0.6, 0.3]]), ["a", "b", "z"]),
    )
    assert scored.predicted.tolist() == [2, 1]
    assert np.exp(-scored.loss) == pytest.approx([0.1, 0.6])


def test_rows_that_are_answered_rightly_are_told_where_there_are_such() -> None:
    flags, said = np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.1], [0.9, 0.4]])
    assert MultilabelProblem(["a", "b"]).is_correct(flags, said).tolist() == [True, False]
    assert RegressionProblem(["value"]).is_correct(flags[:, 0], said[:, 0]) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            DIABETES.replace("metric: r2", "metric: rmsle"),
            "gate: metric: 'rmsle' is not a metric of regression (did you mean rmse?)",
        ),
        (
            OPERATIONS.replace("metric: subset_accuracy", "metric: accuracy"),
            "gate: metric: 'accuracy' is not a metric of multilabel "
            "(did you mean subset_accuracy?). Allowed: micro_f1, macro_f1,",
        ),
        (
            DIABETES.replace("dropout: 0.0", "metric: accuracy"),
            "train: metric: 'accuracy' is not a metric of regression",
        ),
        (
            DIABETES.replace("regression", "regresion"),
            "problem: 'regresion' is not allowed (did you mean regression?). "
            "Allowed: classification, multilabel, regression",
        ),
        (
            DIABETES.replace("rule: floor, metric: r2, bound: 0.3", "rule: baseline"),
            "has no floor, so nothing could judge the first model: "
            "add {rule: ceiling, metric: rmse",
        ),
        (
            DIABETES.replace("dropout: 0.0", "label_smoothing: 0.1, class_weights: balanced"),
            "train.class_weights and train.label_smoothing: made for one class a row, "
            "and the problem is regression",
        ),
        (
            OPERATIONS + "label: {errors: drop}\n",
            "label.errors: made for one class a row, and the problem is multilabel: "
            "leave out what needs it",
        ),
    ],
)
def test_a_recipe_names_what_its_problem_does_not_know(
    here: Path, text: str, sentence: str
) -> None:
    (here / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_recipe(here / "recipe.yaml")
    assert sentence in str(caught.value)


def test_metrics_that_a_recipe_leaves_out_are_those_of_its_problem(here: Path) -> None:
    (here / "recipe.yaml").write_text(OPERATIONS.replace("metric: subset_accuracy, ", ""))
    made = read_recipe(here / "recipe.yaml")
    assert (made.train.metric, getattr(made.gate[1], "metric", None)) == ("micro_f1", "micro_f1")


def written(here: Path, text: str, labels: list[str]) -> tuple[Recipe, Path]:
    (here / "recipe.yaml").write_text(text)
    words = " ".join(tiny.WORDS)
    lines = [
        f"r{number:02d},{number},{words} {number * number},{one}"
        for number, one in enumerate(labels)
    ]
    (here / "source.csv").write_text("\n".join(["id,a,text,label", *lines]) + "\n")
    made = read_recipe(here / "recipe.yaml")
    ingest.run(made, StagePaths(here))
    made = made.model_copy(update={"clean": made.clean.model_copy(update={"rules": []})})
    clean.run(made, StagePaths(here))
    label.run(made, StagePaths(here))
    return made, here


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        (
            DIABETES.replace("ingest:", "columns: {id: id}\ningest:"),
            ["1", "nan", "x", "2", "inf"],
            "3 rows, r01 ('nan'), r02 ('x'), r04 ('inf'), have targets that are not finite numbers",
        ),
        (
            OPERATIONS,
            ["a|b", "a||b", "[1]"],
            "2 rows, r01 ('a||b'), r02 ('[1]'), have labels that cannot be read: write them as a|b",
        ),
        (
            OPERATIONS + "label: {classes: [a, bb]}\n",
            ["a|bb", "b|a"],
            "label 'b' of 1 row(s), first r01, is not among label.classes (did you mean bb?)",
        ),
    ],
)
def test_labels_that_cannot_be_read_are_named_with_their_rows(
    here: Path, text: str, labels: list[str], sentence: str
) -> None:
    with pytest.raises(StageError) as caught:
        written(here, text, labels)
    assert sentence in str(caught.value)


def test_an_unlabelled_row_is_set_aside_and_labels_are_written_in_one_way(here: Path) -> None:
    _, folder = written(here, OPERATIONS, ["b|a", '"[""c"", ""a""]"', "", "[]", "a | b"])
    table = files.read_table(folder / "labelled" / "rows.parquet")
    assert dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True)) == {
        "r00": "a|b",
        "r01": "a|c",
        "r03": "[]",
        "r04": "a|b",
    }
    assert files.read_json(folder / "labelled" / "report.json")["classes"] == {
        "a": 3,
        "b": 2,
        "c": 1,
    }
    assert files.read_table(folder / "labelled" / "rejects.parquet")["id"].to_pylist() == ["r02"]
    assert 'choice="multiple"' in (folder / "labelled" / "review.labelstudio.xml").read_text()


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        (
            DIABETES.replace("ingest:", "columns: {id: id}\ningest:"),
            ["3"] * 40,
            "split: all rows have the same target: there is nothing to learn",
        ),
        (
            OPERATIONS + "max_dropped: 1.0\n",
            ["a"] * 40,
            "split: all rows have the label 'a': a classifier needs at least two classes",
        ),
        (OPERATIONS + "max_dropped: 1.0\n", ["a|b"] * 39 + ["c"], "'c' has no row in t"),
    ],
)
def test_a_split_from_which_nothing_could_be_learnt_is_refused(
    here: Path, text: str, labels: list[str], sentence: str
) -> None:
    made, folder = written(here, text, labels)
    with pytest.raises(StageError) as caught:
        split.run(made, StagePaths(folder))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "labels", "sentence"),
    [
        (
            ClassificationProblem,
            ["a", "a"],
            "train: all rows have the label 'a': a classifier needs at least two classes",
        ),
        (
            MultilabelProblem,
            ["a", "a"],
            "train: the rows have a alone: problem: multilabel needs at least two labels",
        ),
        (
            RegressionProblem,
            ["2", "2.0"],
            "train: all rows have the target 2: there is nothing to learn",
        ),
        (RegressionProblem, ["2", "nan"], "1 row, r1 ('nan'), have targets"),
    ],
)
def test_rows_from_which_nothing_can_be_learnt_are_refused_in_training(
    problem: Any, labels: list[str], sentence: str
) -> None:
    with pytest.raises(StageError) as caught:
        problem.from_training_data(Train(), pa.table({"id": ["r0", "r1"], "label": labels}))
    assert sentence in str(caught.value)


def test_a_label_that_train_lacks_is_named_where_the_model_is_measured() -> None:
    table = pa.table({"id": ["r0", "r1"], "label": ["a", "z"]})
    for problem_class, cell in ((ClassificationProblem, "a"), (MultilabelProblem, "a|b")):
        problem = problem_class.from_training_data(
            Train(), pa.table({"id": ["t", "u"], "label": [cell, "b"]})
        )
        assert problem.filter_known_labels(table)["id"].to_pylist() == ["r0"]
        with pytest.raises(
            StageError, match="the rows have the class 'z', which the model does not know"
        ):
            problem.targets(table)


@pytest.mark.parametrize(("column", "modality"), [("text", "text"), ("image", "image")])
def test_a_row_without_content_is_named(column: str, modality: str, tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["r0", "r1"],
            "label": ["a", "b"],
            column: pa.array([b"x", None], pa.binary() if column == "image" else pa.string()),
        }
    )
    with pytest.raises(
        StageError,
        match=f"1 row.s., such as r1, have no {column}: fill them in, "
        "or have a rule of clean reject them",
    ):
        modalities.extract_inputs(tiny.recipe(modality, tmp_path), table)


def test_a_target_is_no_class_to_drift_and_to_the_proof_of_the_split() -> None:
    table = pa.table(
        {
            "id": [f"r{n:03d}" for n in range(100)],
            "a": [f"{n}!" for n in range(100)],
            "label": [str(n / 7) for n in range(100)],
        }
    )
    found = profile.build_profile(table, "tabular", "regression")
    assert found.classes == {} and found.bins["label"].kind == "number"
    sides_ = {"train": table.slice(0, 80), "val": table.slice(80, 10), "test": table.slice(90)}
    assert all(
        outcome.result.success
        for outcome in leakage_check.check_leakage(sides_, "tabular", "regression")[0]
    )
    assert not leakage_check.check_leakage(sides_, "tabular")[0][-1].result.success


def test_fifths_hold_as_many_numbers_each() -> None:
    names, at = label_values.split_into_quintiles(np.arange(100.0), np.array([-5, 19, 50, 1e9]))
    assert (names[0], names[-1], at.tolist()) == ("up to 19.8", "over 79.2", [0, 0, 2, 4])
    assert label_values.assign_strata("multilabel", ["b|a", "[]"]) == [["a", "b"], []]
