"""Temperature scaling: how it is fitted, applied by the model and shown by the evaluation."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from tasks import evaluate, modalities, problems, train
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.model_info import ModelInfo
from tasks.evaluation import calibration
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.problems.base import Problem, Targets
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


class Sample(NamedTuple):
    """Targets, and a model's answers to them."""

    targets: Targets
    answers: Floats


def draw_classes(rows: int, factor: float) -> Sample:
    """Draw classes from probabilities; the logits of the answers are too large by a factor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 3)) * 1.5
    targets = np.array([rng.choice(3, p=row) for row in THREE.decode_outputs(logits)])
    return Sample(targets, THREE.decode_outputs(logits * factor))


def draw_labels(rows: int, factor: float) -> Sample:
    """Draw labels from probabilities; the logits of the answers are too large by a factor."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 2)) * 2
    has_label = rng.random((rows, 2)) < TWO.decode_outputs(logits)
    return Sample(has_label.astype(np.float32), TWO.decode_outputs(logits * factor))


def compute_log_loss(problem: Problem, targets: Targets, answers: Floats) -> float:
    predictions = problem.compact_predictions(targets, answers)
    return problem.point_estimates(targets, predictions, ["log_loss"])["log_loss"]


@pytest.mark.parametrize(("problem", "draw"), [(THREE, draw_classes), (TWO, draw_labels)])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_undoes_too_much_or_too_little_certainty(
    problem: Problem, draw: Callable[[int, float], Sample], factor: float
) -> None:
    targets, answers = draw(3000, factor)
    temperature = temperature_scaling.fit_temperature(problem, targets, answers)[0]
    assert temperature == pytest.approx(factor, rel=0.08)
    scaled = problem.scale_by_temperature(answers, temperature)
    if problem is TWO:
        assert ((scaled >= 0.5) == (answers >= 0.5)).all()
    else:
        assert (scaled.argmax(1) == answers.argmax(1)).all()
    loss = compute_log_loss(problem, targets, answers)
    assert compute_log_loss(problem, targets, scaled) < loss
    restored = problem.scale_by_temperature(scaled, 1 / temperature)
    assert restored == pytest.approx(answers, abs=1e-9)


@pytest.mark.parametrize("name", ["classification", "multilabel"])
def test_a_model_with_a_temperature_gives_scaled_answers(name: str) -> None:
    logits = np.random.default_rng(0).normal(size=(20, 2)) * 4
    info = tiny.model_info("tabular", problem=name, labels=["a", "b"])
    plain = problems.from_model_info(info)
    scaled = problems.from_model_info(info.model_copy(update={"temperature": 0.5}))
    assert plain.temperature == 1.0
    assert scaled.temperature == 0.5
    expected = plain.scale_by_temperature(plain.decode_outputs(logits), 0.5)
    assert scaled.decode_outputs(logits) == pytest.approx(expected)


def test_rows_that_are_all_correct_do_not_make_a_model_boundlessly_certain() -> None:
    targets = np.arange(200) % 3
    answers = THREE.decode_outputs(np.eye(3)[targets] * 3)
    temperature = temperature_scaling.fit_temperature(THREE, targets, answers)[0]
    assert 0.2 < temperature < 1
    assert THREE.scale_by_temperature(answers, temperature).max() < 0.9999


def test_certain_and_impossible_answers_stay_so_and_no_number_is_lost() -> None:
    certain = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    assert (THREE.scale_by_temperature(certain, 2.0) == certain).all()
    assert (TWO.scale_by_temperature(np.array([[1.0, 0.0]]), 2.0) == [[1.0, 0.0]]).all()


def case_of_answers(
    problem: Problem, targets: Targets, answers: Floats, **section: object
) -> EvaluationContext:
    """Make a case without inputs, for what is computed from targets and answers alone."""
    predictor: Any = SimpleNamespace(problem=problem, labels=problem.labels)
    config = Evaluate.model_validate({"resamples": 200, **section})
    table = tiny.table("tabular", 0, 2)
    return EvaluationContext(
        recipe=tiny.recipe("tabular", Path()).model_copy(update={"evaluate": config}),
        model=ModelFolder(Path()),
        predictor=predictor,
        train=table,
        val=table,
        test=table,
        inputs=[None] * len(targets),
        targets=targets,
        answers=answers,
    )


def measure(problem: Problem, targets: Targets, answers: Floats) -> AspectResult:
    result = calibration.measure(case_of_answers(problem, targets, answers))
    assert result is not None
    return result


def test_the_expected_calibration_error_is_that_of_the_definition() -> None:
    targets, answers = draw_classes(400, 3.0)
    result = measure(THREE, targets, answers)
    confidence = answers.max(1)
    is_correct = answers.argmax(1) == targets
    expected = 0.0
    for low in np.arange(15) / 15:
        in_bin = confidence >= low
        if low < 14 / 15:
            in_bin &= confidence < low + 1 / 15
        expected += abs(is_correct[in_bin].sum() - confidence[in_bin].sum()) / 400
    error = result.metrics["expected_calibration_error"]
    assert error["value"] == pytest.approx(expected, abs=1e-6)
    assert error["low"] < error["value"] < error["high"]
    assert sum(count for _, _, count in result.report["after"]) == 400
    # This model has no temperature.
    assert result.metrics["before"]["log_loss"] == result.metrics["log_loss"]


def test_before_is_without_the_temperature() -> None:
    targets, answers = draw_classes(1000, 3.0)
    problem = ClassificationProblem(["a", "b", "c"])
    problem.temperature = 3.0
    scaled = measure(problem, targets, problem.scale_by_temperature(answers, 3.0)).metrics
    plain = measure(THREE, targets, answers).metrics
    before = scaled["before"]
    assert before["expected_calibration_error"] == plain["expected_calibration_error"]
    error = scaled["expected_calibration_error"]
    assert error["high"] < before["expected_calibration_error"]["low"]
    assert scaled["log_loss"]["value"] < before["log_loss"]["value"]


def test_each_label_is_calibrated() -> None:
    result = measure(TWO, *draw_labels(500, 3.0))
    assert sum(count for _, _, count in result.report["after"]) == 1000
    assert result.metrics["expected_calibration_error"]["value"] > 0.05


def test_a_number_has_no_calibration() -> None:
    case = case_of_answers(RegressionProblem(["value"]), np.zeros(4), np.zeros((4, 1)))
    assert calibration.measure(case) is None


class Trained(NamedTuple):
    """A recipe, and the description of the model that was trained for it."""

    recipe: Recipe
    info: ModelInfo


def train_tabular(folder: Path, val_rows: int, **export: object) -> Trained:
    """Train a model of a table that is validated on some number of rows."""
    paths = StagePaths(folder)
    recipe = tiny.recipe("tabular", folder, epochs=2, hidden_sizes=[32], learning_rate=0.02)
    recipe = recipe.model_copy(update={"export": recipe.export.model_copy(update=export)})
    files.write_table(paths.split.train, tiny.table("tabular", 0, 200))
    files.write_table(paths.split.val, tiny.table("tabular", 500, val_rows))
    files.write_table(paths.split.test, tiny.table("tabular", 900, 60))
    train.run(recipe, paths, folder / "checkpoints")
    return Trained(recipe, ModelInfo.read(paths.model.info))


@pytest.mark.parametrize(
    ("val_rows", "step", "export"), [(200, 1, {}), (200, 1, {"int8": True}), (4001, 3, {})]
)
def test_training_ends_with_the_temperature_of_what_is_exported(
    val_rows: int, step: int, export: dict[str, bool], tmp_path: Path
) -> None:
    recipe, info = train_tabular(tmp_path, val_rows, **export)
    paths = StagePaths(tmp_path)
    val = files.read_table(paths.split.val)
    inputs = modalities.extract_inputs(recipe, val)
    plain = modalities.load_predictor(paths.model.path)
    plain.problem.temperature = 1.0
    targets = plain.problem.targets(val)[::step]
    answers = modalities.predict(plain, inputs[::step])
    expected = temperature_scaling.fit_temperature(plain.problem, targets, answers)[0]
    assert info.temperature == expected
    assert expected != 1.0
    served = modalities.predict(modalities.load_predictor(paths.model.path), inputs)
    scaled = plain.problem.scale_by_temperature(modalities.predict(plain, inputs), expected)
    assert served == pytest.approx(scaled)


@pytest.mark.parametrize("val_rows", [0, 49])
def test_few_validation_rows_leave_the_model_as_it_is(val_rows: int, tmp_path: Path) -> None:
    assert train_tabular(tmp_path, val_rows).info.temperature == 1.0


def test_the_report_shows_the_diagram_and_dvc_its_numbers(tmp_path: Path) -> None:
    recipe, info = train_tabular(tmp_path, 100)
    paths = StagePaths(tmp_path)
    evaluate.run(recipe, paths)
    metrics = Evaluation.read(paths.evaluation.metrics).aspects["calibration"]
    assert metrics["temperature"] == info.temperature
    header, *lines = (paths.evaluation.plots / "reliability.csv").read_text().splitlines()
    assert header == "probability,right,answers"
    assert sum(int(line.split(",")[2]) for line in lines) == 60
    page = paths.evaluation.page.read_text()
    assert page.partition(">Calibration</h2>")[2].count('class="done"') == len(lines)
    json.dumps(metrics, allow_nan=False)
