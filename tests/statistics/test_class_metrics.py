"""Metrics against scikit-learn's, also of resampled rows; intervals; and metrics without value."""

import json
import time
import tracemalloc
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from tasks import evaluate, modalities
from tasks import train as tasks_train
from tasks.contracts.epoch_record import EpochRecord
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import StageError
from tasks.gating import decision
from tasks.gating.decision import GateInputs
from tasks.gating.pairs import PairedPredictions
from tasks.modalities.base import Predictor
from tasks.problems import regression
from tasks.problems.base import Problem
from tasks.problems.classification import ClassificationProblem, ClassPredictions
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.metric_names import METRICS_BY_PROBLEM
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.statistics import class_metrics, intervals
from tasks.statistics.array_types import Floats, Ints
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tasks.tuning import trial
from tests import tiny
from tests.gating.helpers import predict_with_accuracy

FEW = Evaluate(resamples=200)
THREE = ClassificationProblem(["a", "b", "c"])


def draw_answers(
    rows: int, classes: int, seed: int = 0, signal: float = 1.5
) -> tuple[Ints, Floats]:
    """Draw classes, and probabilities that fit them somewhat, rounded so that some are equal."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += signal
    problem = ClassificationProblem([str(n) for n in range(classes)])
    return targets, problem.decode_outputs(logits)


def test_metrics_of_classes_are_those_of_scikit_learn() -> None:
    targets, answers = draw_answers(300, 3)
    answers = answers.round(2)
    answers /= answers.sum(1, keepdims=True)
    predictions = THREE.compact_predictions(targets, answers)
    probabilities = answers.round(6)
    predicted = predictions.predicted
    areas = [sk.roc_auc_score(targets == label, probabilities[:, label]) for label in range(3)]
    expected = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "macro_f1": sk.f1_score(targets, predicted, average="macro"),
        "log_loss": -np.log(np.clip(answers[np.arange(300), targets], 1e-15, 1)).mean(),
        "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
        "macro_precision": sk.precision_score(targets, predicted, average="macro"),
        "weighted_f1": sk.f1_score(targets, predicted, average="weighted"),
        "mcc": sk.matthews_corrcoef(targets, predicted),
        "roc_auc": np.mean(areas),
        "pr_auc": sk.average_precision_score(np.eye(3)[targets], probabilities, average="macro"),
    }
    assert set(expected) == set(METRICS_BY_PROBLEM["classification"])
    assert THREE.point_estimates(targets, predictions) == pytest.approx(expected, abs=1e-9)


def test_metrics_of_predicted_classes_agree_with_scikit_learn() -> None:
    labels = np.arange(200, dtype=np.int64) % 3
    predictions = predict_with_accuracy(labels, 0.6, 3)
    points = THREE.point_estimates(labels, predictions, ["accuracy", "macro_f1"])
    accuracy = sk.accuracy_score(labels, predictions.predicted)
    macro_f1 = sk.f1_score(labels, predictions.predicted, average="macro")
    assert points == pytest.approx({"accuracy": accuracy, "macro_f1": macro_f1})


def test_metrics_of_labels_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((200, 4)) < 0.3).astype(np.float32)
    answers = np.clip(0.3 * targets + rng.random((200, 4)) * 0.6, 0, 1).round(2)
    points = MultilabelProblem(list("abcd")).point_estimates(targets, answers)
    predicted = answers >= 0.5
    expected = {
        "hamming_loss": sk.hamming_loss(targets, predicted),
        "macro_precision": sk.precision_score(targets, predicted, average="macro"),
        "macro_recall": sk.recall_score(targets, predicted, average="macro"),
        "roc_auc": sk.roc_auc_score(targets, answers, average="macro"),
        "mean_average_precision": sk.average_precision_score(targets, answers, average="macro"),
    }
    assert {name: points[name] for name in expected} == pytest.approx(expected)


def test_the_median_of_resampled_errors_is_that_of_the_rows_written_out() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.random(31)
    weights = rng.integers(0, 3, (50, 31)).astype(float)
    written = [np.median(np.repeat(numbers, times.astype(int))) for times in weights]
    assert regression.weighted_median(numbers, weights) == pytest.approx(written)
    assert {int(total) % 2 for total in weights.sum(1)} == {0, 1}
    targets = rng.normal(size=31)
    metrics = RegressionProblem(["value"]).point_estimates(targets, targets + numbers)
    expected = sk.median_absolute_error(targets, targets + numbers)
    assert metrics["median_absolute_error"] == pytest.approx(expected)


def test_ranks_of_resampled_rows_are_those_of_the_rows_written_out() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, 40) / 5  # many are equal
    actual = rng.random(40) < 0.5
    weights = rng.integers(0, 4, (20, 40)).astype(float)
    roc_auc, average_precision = class_metrics.compute_curve_areas(actual, scores, weights)
    for resample, counts in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(40), counts)
        expected_auc = sk.roc_auc_score(actual[rows], scores[rows])
        expected_precision = sk.average_precision_score(actual[rows], scores[rows])
        assert roc_auc[resample] == pytest.approx(expected_auc)
        assert average_precision[resample] == pytest.approx(expected_precision)


def test_intervals_are_stratified_repeat_and_cover() -> None:
    targets, answers = draw_answers(900, 3)
    predictions = THREE.compact_predictions(targets, answers)
    metrics = THREE.metric_intervals(targets, predictions, Evaluate())
    assert metrics == THREE.metric_intervals(targets, predictions, Evaluate())
    assert set(metrics) == set(METRICS_BY_PROBLEM["classification"])
    assert all(value["low"] < value["value"] < value["high"] for value in metrics.values())
    weights = np.concatenate(list(THREE.bootstrap_weights(targets, FEW)))
    for label in range(3):
        has_label = targets == label
        assert (weights[:, has_label].sum(1) == has_label.sum()).all()
    samples = THREE.bootstrap_metric("roc_auc", targets, [predictions], Evaluate())[:, 0]
    interval = (metrics["roc_auc"]["low"], metrics["roc_auc"]["high"])
    assert intervals.percentile_bounds(samples, 0.95) == pytest.approx(interval, abs=1e-6)


def test_an_interval_of_accuracy_covers_repeats_and_is_as_wide_as_the_normal_one() -> None:
    labels = np.arange(600, dtype=np.int64) % 3
    predictions = predict_with_accuracy(labels, 0.9, 0)
    samples = THREE.bootstrap_metric("accuracy", labels, [predictions], Evaluate())[:, 0]
    repeated = THREE.bootstrap_metric("accuracy", labels, [predictions], Evaluate())[:, 0]
    assert (samples == repeated).all()
    low, high = intervals.percentile_bounds(samples, 0.95)
    assert low < 0.9 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.9 * 0.1 / 600) ** 0.5, rel=0.15)


def test_a_point_more_on_the_same_rows_is_seen_though_the_intervals_overlap() -> None:
    targets, answers = draw_answers(600, 3)
    better = 0.9 * answers + 0.1 * np.eye(3)[targets]
    models = [
        THREE.compact_predictions(targets, better),
        THREE.compact_predictions(targets, answers),
    ]
    samples = THREE.bootstrap_metric("roc_auc", targets, models, FEW)
    assert (samples[:, 0] > samples[:, 1]).all()
    assert samples[:, 0].min() < samples[:, 1].max()


def test_metrics_of_no_rows_are_refused_with_a_sentence() -> None:
    problem = RegressionProblem(["value"])
    with pytest.raises(StageError, match=r"no rows to measure the model on.*split\.test"):
        list(problem.bootstrap_weights(np.zeros(0), FEW))


def test_each_class_has_its_own_intervals() -> None:
    targets, answers = draw_answers(300, 3)
    predictions = THREE.compact_predictions(targets, answers)
    table = THREE.metrics_by_class(targets, predictions, FEW)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        targets, predictions.predicted
    )
    for index, name in enumerate("abc"):
        assert table[name]["support"] == support[index]
        for part, value in (("precision", precision), ("recall", recall), ("f1", f1)):
            interval = table[name][part]
            assert isinstance(interval, dict)
            assert interval["value"] == pytest.approx(value[index], abs=1e-6)
            assert interval["low"] < interval["value"] < interval["high"]


def test_ten_thousand_rows_take_seconds_and_memory_does_not_grow_with_resamples() -> None:
    targets, answers = draw_answers(10_000, 14)
    problem = ClassificationProblem([f"{n:02d}" for n in range(14)])
    predictions = problem.compact_predictions(targets, answers)
    quick = [
        name
        for name in METRICS_BY_PROBLEM["classification"]
        if name not in class_metrics.RANKING_METRICS
    ]
    for names, most in ((quick, 1.0), (METRICS_BY_PROBLEM["classification"], 6.0)):
        best = min(measure_seconds(problem, names, targets, predictions) for _ in range(3))
        assert best <= most
    peaks = []
    for resamples in (1000, 4000):
        tracemalloc.start()
        problem.bootstrap_metrics(
            ["roc_auc", "log_loss", "macro_f1"],
            targets[:2000],
            [problem.take(predictions, np.arange(2000))],
            Evaluate(resamples=resamples),
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3


def measure_seconds(
    problem: ClassificationProblem,
    metrics: Collection[str],
    targets: Ints,
    predictions: ClassPredictions,
) -> float:
    """Measure how long the intervals of metrics take."""
    start = time.monotonic()
    problem.bootstrap_metrics(metrics, targets, [predictions], Evaluate())
    return time.monotonic() - start


def test_a_class_that_the_rows_lack_counts_in_no_mean() -> None:
    targets, answers = draw_answers(200, 3)
    kept = targets != 2
    targets = targets[kept]
    predictions = THREE.compact_predictions(targets, answers[kept])
    assert predictions.probabilities is not None
    points = THREE.point_estimates(targets, predictions)
    assert points["balanced_accuracy"] == pytest.approx(
        np.mean([(predictions.predicted[targets == label] == label).mean() for label in (0, 1)])
    )
    assert points["roc_auc"] == pytest.approx(
        np.mean(
            [
                sk.roc_auc_score(targets == label, predictions.probabilities[:, label])
                for label in (0, 1)
            ]
        )
    )
    assert all(np.isfinite(value) for value in points.values())
    assert THREE.metrics_by_class(targets, predictions, FEW)["c"]["support"] == 0


def test_rows_of_one_class_have_no_roc_auc_and_a_rule_on_it_fails() -> None:
    targets = np.zeros(30, np.int64)
    predictions = THREE.compact_predictions(targets, draw_answers(30, 3)[1])
    numbers = THREE.metric_intervals(targets, predictions, FEW)
    assert set(METRICS_BY_PROBLEM["classification"]) - set(numbers) == {"roc_auc"}
    json.dumps(numbers, allow_nan=False)
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "modality": "text",
            "ingest": {"kind": "files", "path": "x.csv"},
            "clean": {"rules": []},
            "gate": [
                {"rule": "floor", "metric": "roc_auc", "bound": 0.5},
                {"rule": "baseline", "metric": "roc_auc"},
            ],
        }
    )
    pair = PairedPredictions([str(row) for row in range(30)], targets, predictions, predictions)
    metrics: dict[str, Any] = {"rows": 30, **numbers}
    judged = decision.judge(recipe, GateInputs(metrics, THREE, {"baseline": {"": pair}}))
    assert [check.outcome for check in judged.checks] == ["fail", "fail"]
    assert "The evaluation has no 'roc_auc'" in judged.checks[0].reason
    assert "The value is not a number" in judged.checks[1].reason


def test_labels_that_no_row_has_leave_no_nan_in_the_metrics() -> None:
    problem = MultilabelProblem(["a", "b"])
    # In a third of the resamples no row has a label.
    targets = np.array([[1, 0]] + [[0, 0]] * 5, np.float32)
    answers = np.full((6, 2), 0.2)
    metrics = problem.metric_intervals(targets, answers, FEW)
    json.dumps(metrics, allow_nan=False)
    assert "mean_average_precision" in metrics
    without_labels = problem.metric_intervals(targets[1:], answers[1:], FEW)
    assert "mean_average_precision" not in without_labels


def test_training_for_a_metric_that_the_validation_rows_do_not_have_is_refused() -> None:
    problem = ClassificationProblem(["a", "b"], Train(metric="roc_auc"))
    with pytest.raises(
        StageError,
        match=r"train\.metric: roc_auc is not a number on the 5 validation rows: "
        "choose another if they are all of one class",
    ):
        problem.measure(np.zeros(5, np.int64), np.full((5, 2), 0.5))
    assert "roc_auc" not in ClassificationProblem(["a", "b"]).measure(
        np.zeros(5, np.int64), np.full((5, 2), 0.5)
    )


def test_a_search_for_a_metric_that_the_validation_rows_do_not_have_is_refused() -> None:
    with pytest.raises(
        StageError,
        match=r"tune\.metric: the validation rows have no roc_auc, "
        "since they are all of one class: choose another metric",
    ):
        trial.compute_curve(
            [EpochRecord(1, 1, 1.0, {"log_loss": 1.0})], Train(metric="log_loss"), "roc_auc"
        )


def test_a_model_can_be_trained_for_roc_auc_and_the_gate_reads_what_was_evaluated(
    tmp_path: Path,
) -> None:
    recipe = tiny.recipe("tabular", tmp_path, metric="roc_auc")
    source = tiny.split("tabular", tmp_path / "split")
    files.write_table(source / "test.parquet", tiny.table("tabular", 900, 40))
    tasks_train.run(recipe, StagePaths(tmp_path), tmp_path / "checkpoints")
    evaluate.run(recipe, StagePaths(tmp_path))
    metrics = Evaluation.read(tmp_path / "evaluation" / "metrics.json").numbers()
    predictions = files.read_table(tmp_path / "evaluation" / "predictions.parquet")
    problem = modalities.load_predictor(tmp_path / "model").problem
    targets = problem.targets(predictions)
    by_model = problem.read_predictions(predictions)
    for model, written in (("model", metrics), ("baseline", metrics["baseline"])):
        points = problem.point_estimates(targets, by_model[model])
        values = {name: written[name]["value"] for name in points}
        assert values == pytest.approx(points, abs=2e-6)
    assert "roc_auc" in (tmp_path / "evaluation" / "report.html").read_text()
    history = (tmp_path / "evaluation" / "plots" / "history.csv").read_text()
    header = history.splitlines()[0].split(",")
    assert "val_roc_auc" in header
    assert header[-1] == "metric"


def test_answers_that_are_no_numbers_are_refused() -> None:
    class Broken(Predictor):
        problem: Problem = THREE
        labels = THREE.labels

        def __call__(self, rows: Sequence[Any]) -> Floats:
            return np.array([[0.2, 0.3, 0.5], [np.nan, 0.5, 0.5]])

    with pytest.raises(
        StageError,
        match="the model gives no probabilities or numbers for 1 of 2 test rows, "
        "the first of which is row 1: it is broken; train again",
    ):
        modalities.predict(Broken(), ["x", "y"])


@pytest.mark.parametrize(
    ("problem", "metric", "sentence"),
    [
        (
            "classification",
            "roc_auk",
            "gate: metric: 'roc_auk' is not a metric of classification (did you mean roc_auc?)",
        ),
        (
            "regression",
            "mcc",
            "gate: metric: 'mcc' is not a metric of regression. "
            "Allowed: rmse, mae, median_absolute_error, r2",
        ),
    ],
)
def test_an_unknown_metric_names_the_nearest(
    problem: str, metric: str, sentence: str, tmp_path: Path
) -> None:
    from tasks.core.errors import ConfigError
    from tasks.recipe.loading import read_recipe

    (tmp_path / "recipe.yaml").write_text(
        f"name: x\nmodality: tabular\nproblem: {problem}\n"
        "ingest: {kind: files, path: x.csv}\n"
        f"gate: [{{rule: floor, metric: {metric}, bound: 0.5}}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert sentence in str(caught.value)
