"""Problems on small known answers: their metrics, labels and recipes."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.checks import profile
from tasks.core.errors import ConfigError
from tasks.problems.classification import ClassificationProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.loading import read_recipe
from tasks.rows import label_values, leakage_check
from tasks.statistics import intervals
from tests.problems.helpers import DIABETES, OPERATIONS


def test_intervals_of_any_problem_cover_and_repeat() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=800)
    predictions = targets + rng.normal(size=800)
    models = [predictions, predictions + 0.01]
    problem = RegressionProblem(["value"])
    samples = problem.bootstrap_metric("rmse", targets, models, Evaluate())
    assert (samples == problem.bootstrap_metric("rmse", targets, models, Evaluate())).all()
    low, high = intervals.percentile_bounds(samples[:, 0], 0.95)
    assert low < 1 < high
    assert high - low == pytest.approx(2 * 1.96 / 1600**0.5, rel=0.2)


def test_two_models_share_their_resamples() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=800)
    predictions = targets + rng.normal(size=800)
    models = [predictions, predictions + 0.01]
    problem = RegressionProblem(["value"])
    samples = problem.bootstrap_metric("rmse", targets, models, Evaluate())
    difference = samples[:, 0] - samples[:, 1]
    assert np.std(difference) < np.std(samples[:, 0]) / 10


def test_a_champion_of_other_labels_is_asked_for_those_that_it_knows() -> None:
    problem = MultilabelProblem(["a", "b", "c"])
    assert problem.align_labels(np.array([[0.9, 0.2]]), ["c", "a"]).tolist() == [[0.2, 0.0, 0.9]]
    classes = ClassificationProblem(["a", "b"])
    answers = np.array([[0.1, 0.2, 0.7], [0.1, 0.6, 0.3]])
    aligned = classes.align_labels(answers, ["a", "b", "z"])
    predictions = classes.compact_predictions(np.array([0, 1]), aligned)
    assert predictions.predicted.tolist() == [2, 1]
    assert np.exp(-predictions.loss) == pytest.approx([0.1, 0.6])


def test_only_problems_with_right_answers_say_which_rows_are_right() -> None:
    targets = np.array([[1, 0], [1, 1]], np.float32)
    answers = np.array([[0.9, 0.1], [0.9, 0.4]])
    assert MultilabelProblem(["a", "b"]).is_correct(targets, answers).tolist() == [True, False]
    assert RegressionProblem(["value"]).is_correct(targets[:, 0], answers[:, 0]) is None


def test_pairs_of_several_labels_hold_what_is_missed_and_wrongly_given() -> None:
    targets = np.array([[1, 1, 0]], np.float32)
    pairs = MultilabelProblem(["a", "b", "c"]).confusion_pairs(targets, np.array([[0.9, 0.1, 0.6]]))
    assert pairs == [("a", "a"), ("b", "(none)"), ("(none)", "c")]


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
    recipe = read_recipe(here / "recipe.yaml")
    assert recipe.train.metric == "micro_f1"
    assert getattr(recipe.gate[1], "metric", None) == "micro_f1"


def test_a_target_is_no_class_in_profile_and_leakage_check() -> None:
    numbers = range(100)
    table = pa.table(
        {
            "id": [f"r{number:03d}" for number in numbers],
            "a": [f"{number}!" for number in numbers],
            "label": [str(number / 7) for number in numbers],
        }
    )
    summary = profile.build_profile(table, "tabular", "regression")
    assert summary.classes == {}
    assert summary.bins["label"].kind == "number"
    splits = {"train": table.slice(0, 80), "val": table.slice(80, 10), "test": table.slice(90)}
    outcomes = leakage_check.check_leakage(splits, "tabular", "regression")[0]
    assert all(outcome.result.success for outcome in outcomes)
    assert not leakage_check.check_leakage(splits, "tabular")[0][-1].result.success


def test_fifths_hold_as_many_numbers_each() -> None:
    numbers = np.array([-5, 19, 50, 1e9])
    names, indices = label_values.split_into_quintiles(np.arange(100.0), numbers)
    assert (names[0], names[-1]) == ("up to 19.8", "over 79.2")
    assert indices.tolist() == [0, 0, 2, 4]
    assert label_values.assign_strata("multilabel", ["b|a", "[]"]) == [["a", "b"], []]
