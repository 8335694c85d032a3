"""Temperature scaling: when it is fitted, where it is applied, and what the evaluation reports."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import evaluate, modalities, problems, train
from tasks.contracts.evaluation import Evaluation
from tasks.evaluation import calibration
from tasks.evaluation.base import EvaluationContext
from tasks.problems.base import Problem
from tasks.problems.classification import ClassificationProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.recipe import Recipe
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.training import temperature_scaling
from tests import tiny

THREE = ClassificationProblem(["a", "b", "c"])
TWO = MultilabelProblem(["a", "b"])


def classes(rows: int, wrong_by: float, seed: int = 0) -> tuple[Any, Floats]:
    """Draw classes from probabilities; the answers' logits are too large by this factor."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, 3)) * 1.5
    targets = np.array([rng.choice(3, p=row) for row in THREE.decode_outputs(logits)])
    return targets, THREE.decode_outputs(logits * wrong_by)


def labels(rows: int, wrong_by: float) -> tuple[Any, Floats]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 2)) * 2
    return (rng.random((rows, 2)) < TWO.decode_outputs(logits)).astype(
        np.float32
    ), TWO.decode_outputs(logits * wrong_by)


@pytest.mark.parametrize(("problem", "made"), [(THREE, classes), (TWO, labels)])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_undoes_too_much_or_too_little_certainty(
    problem: Problem, made: Any, factor: float
) -> None:
    targets, answers = made(3000, factor)
    found = temperature_scaling.fit_temperature(problem, targets, answers)[0]
    assert found == pytest.approx(factor, rel=0.08)
    better = problem.scale_by_temperature(answers, found)
    assert (
        ((better >= 0.5) == (answers >= 0.5)).all()
        if problem is TWO
        else (better.argmax(1) == answers.argmax(1)).all()
    )
    loss = [
        problem.point_estimates(targets, problem.compact_predictions(targets, one), ["log_loss"])[
            "log_loss"
        ]
        for one in (better, answers)
    ]
    assert loss[0] < loss[1]
    assert problem.scale_by_temperature(better, 1 / found) == pytest.approx(answers, abs=1e-9)


def test_a_model_with_a_temperature_answers_as_its_tempered_answers() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 2)) * 4
    for name in ("classification", "multilabel"):
        plain, cold = (
            problems.from_model_info(
                tiny.model_info("tabular", problem=name, labels=["a", "b"], **extra)
            )
            for extra in ({}, {"temperature": 0.5})
        )
        assert (plain.temperature, cold.temperature) == (1.0, 0.5)
        assert cold.decode_outputs(logits) == pytest.approx(
            plain.scale_by_temperature(plain.decode_outputs(logits), 0.5)
        )


def test_rows_that_are_all_answered_rightly_do_not_make_a_model_boundlessly_certain() -> None:
    targets = np.arange(200) % 3
    answers = THREE.decode_outputs(np.eye(3)[targets] * 3)
    found = temperature_scaling.fit_temperature(THREE, targets, answers)[0]
    assert 0.2 < found < 1
    assert THREE.scale_by_temperature(answers, found).max() < 0.9999


def test_answers_that_are_sure_or_impossible_stay_so_and_no_number_is_lost() -> None:
    sure = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    assert (THREE.scale_by_temperature(sure, 2.0) == sure).all()
    assert (TWO.scale_by_temperature(np.array([[1.0, 0.0]]), 2.0) == [[1.0, 0.0]]).all()


def case(problem: Problem, targets: Any, answers: Floats, **section: Any) -> EvaluationContext:
    """A case without data: what is measured of answers alone."""
    made: Any = type("Predictor", (), {"problem": problem, "labels": problem.labels})()
    recipe = tiny.recipe("tabular", Path()).model_copy(
        update={"evaluate": Evaluate.model_validate({"resamples": 200, **section})}
    )
    table = tiny.table("tabular", 0, 2)
    return EvaluationContext(
        recipe,
        ModelFolder(Path()),
        made,
        table,
        table,
        table,
        [None] * len(targets),
        targets,
        answers,
    )


def test_the_expected_calibration_error_is_that_of_the_definition() -> None:
    targets, answers = classes(400, 3.0)
    found = calibration.measure(case(THREE, targets, answers))
    assert found is not None
    sure, right, total = answers.max(1), answers.argmax(1) == targets, 0.0
    for low in np.arange(15) / 15:
        inside = (sure >= low) & (sure < low + 1 / 15) if low < 14 / 15 else sure >= low
        total += abs(right[inside].sum() - sure[inside].sum()) / 400
    error = found.metrics["expected_calibration_error"]
    assert error["value"] == pytest.approx(total, abs=1e-6)
    assert error["low"] < error["value"] < error["high"]
    assert sum(count for _, _, count in found.report["after"]) == 400
    assert (
        found.metrics["before"]["log_loss"] == found.metrics["log_loss"]
    )  # of a model without a temperature


def test_before_is_without_the_temperature() -> None:
    targets, answers = classes(1000, 3.0)
    cold = ClassificationProblem(["a", "b", "c"])
    cold.temperature = 3.0
    found = calibration.measure(case(cold, targets, cold.scale_by_temperature(answers, 3.0)))
    plain = calibration.measure(case(THREE, targets, answers))
    assert found is not None and plain is not None
    assert (
        found.metrics["before"]["expected_calibration_error"]
        == plain.metrics["expected_calibration_error"]
    )
    assert (
        found.metrics["expected_calibration_error"]["high"]
        < found.metrics["before"]["expected_calibration_error"]["low"]
    )
    assert found.metrics["log_loss"]["value"] < found.metrics["before"]["log_loss"]["value"]


def test_labels_are_calibrated_each_and_a_number_has_no_calibration() -> None:
    targets, answers = labels(500, 3.0)
    found = calibration.measure(case(TWO, targets, answers))
    assert found is not None and sum(count for _, _, count in found.report["after"]) == 1000
    assert found.metrics["expected_calibration_error"]["value"] > 0.05
    assert (
        calibration.measure(case(RegressionProblem(["value"]), np.zeros(4), np.zeros((4, 1))))
        is None
    )


def trained(folder: Path, rows: int, **export: Any) -> tuple[Recipe, dict[str, Any]]:
    made = tiny.recipe("tabular", folder, epochs=2, hidden_sizes=[32], learning_rate=0.02)
    made = made.model_copy(update={"export": made.export.model_copy(update=export)})
    files.write_table(folder / "split" / "train.parquet", tiny.table("tabular", 0, 200))
    files.write_table(folder / "split" / "val.parquet", tiny.table("tabular", 500, rows))
    files.write_table(folder / "split" / "test.parquet", tiny.table("tabular", 900, 60))
    train.run(made, StagePaths(folder), folder / "checkpoints")
    return made, files.read_json(folder / "model" / "model.json")


@pytest.mark.parametrize(
    ("count", "every", "export"), [(200, 1, {}), (200, 1, {"int8": True}), (4001, 3, {})]
)
def test_training_ends_with_the_temperature_of_what_is_exported(
    count: int, every: int, export: dict[str, Any], tmp_path: Path
) -> None:
    made, about = trained(tmp_path, count, **export)
    val = files.read_table(tmp_path / "split" / "val.parquet")
    plain = modalities.load_predictor(tmp_path / "model")
    plain.problem.temperature = 1.0
    rows = modalities.extract_inputs(made, val)
    expected = temperature_scaling.fit_temperature(
        plain.problem, plain.problem.targets(val)[::every], modalities.predict(plain, rows[::every])
    )[0]
    assert about["temperature"] == expected != 1.0
    served = modalities.load_predictor(tmp_path / "model")
    assert modalities.predict(served, rows) == pytest.approx(
        plain.problem.scale_by_temperature(modalities.predict(plain, rows), expected)
    )


@pytest.mark.parametrize("rows", [0, 49])
def test_few_validation_rows_leave_the_model_as_it_is(rows: int, tmp_path: Path) -> None:
    assert trained(tmp_path, rows)[1]["temperature"] == 1.0


def test_the_report_shows_the_diagram_and_dvc_its_numbers(tmp_path: Path) -> None:
    made, about = trained(tmp_path, 100)
    evaluate.run(made, StagePaths(tmp_path))
    metrics = Evaluation.read(tmp_path / "evaluation" / "metrics.json").aspects["calibration"]
    assert metrics["temperature"] == about["temperature"]
    lines = (tmp_path / "evaluation" / "plots" / "reliability.csv").read_text().splitlines()
    assert (
        lines[0] == "probability,right,answers"
        and sum(int(line.split(",")[2]) for line in lines[1:]) == 60
    )
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert page.partition(">Calibration</h2>")[2].count('class="done"') == len(lines) - 1
    json.dumps(metrics, allow_nan=False)
