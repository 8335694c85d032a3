"""Fairness.

Rates by group are compared with fairlearn's and with a census; gaps have intervals, and groups
that are too small have no rates.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import yaml
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    false_positive_rate,
    true_positive_rate,
)  # type: ignore[import-untyped]

from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import StageError
from tasks.evaluation import fairness
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.problems.base import Problem, Targets
from tasks.problems.classification import ClassificationProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.loading import read_recipe
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests import tiny
from tests.conftest import ROOT
from tests.evaluation.test_calibration import case_of_answers
from tests.test_recipes import REAL_DATA

CENSUS = REAL_DATA / "uci_adult"
THREE_CLASSES = ["a", "b", "c"]


class Sample(NamedTuple):
    """Predictions for the rows of two groups, "f" and "m"."""

    group: np.ndarray
    targets: np.ndarray
    answers: Floats


def draw_sample(count: int = 600) -> Sample:
    """Draw two groups, one of which is predicted to be of a class less often than the other."""
    rng = np.random.default_rng(0)
    group = rng.choice(["f", "m"], count, p=[0.4, 0.6])
    targets = (rng.random(count) < 0.4).astype(np.int64)
    noise = rng.normal(size=count) * 0.2
    probability = np.clip(0.35 + 0.3 * targets - 0.15 * (group == "f") + noise, 0.01, 0.99)
    return Sample(group, targets, np.stack([1 - probability, probability], 1))


def make_case(
    column: tuple[str, list[object]],
    problem: Problem,
    targets: Targets,
    answers: Floats,
    **section: object,
) -> EvaluationContext:
    """Make a case of test rows with ids and one more column, a name with its values."""
    name, values = column
    ids = [str(row) for row in range(len(targets))]
    case = case_of_answers(problem, targets, answers, **section)
    return dataclasses.replace(case, test=pa.table({"id": ids, name: values}))


def measure_sexes(
    sexes: list[object], problem: Problem, targets: Targets, answers: Floats, **section: object
) -> AspectResult:
    case = make_case(("sex", sexes), problem, targets, answers, sensitive=["sex"], **section)
    result = fairness.measure(case)
    assert result is not None
    return result


def test_gaps_of_two_classes_are_fairlearns_and_have_intervals() -> None:
    group, targets, answers = draw_sample()
    result = measure_sexes(group.tolist(), tiny.TWO, targets, answers)
    metrics = result.metrics["sex"]
    predicted = answers.argmax(1)
    selection_gap = demographic_parity_difference(targets, predicted, sensitive_features=group)
    assert metrics["selection_rate_gap"]["value"] == pytest.approx(selection_gap, abs=1e-6)
    for name, rate in (("tpr", true_positive_rate), ("fpr", false_positive_rate)):
        frame = MetricFrame(
            metrics=rate, y_true=targets, y_pred=predicted, sensitive_features=group
        )
        rates = {sex: metrics["groups"][sex][name] for sex in "fm"}
        assert metrics[f"{name}_gap"]["value"] == pytest.approx(frame.difference(), abs=1e-6)
        assert rates == pytest.approx(frame.by_group.to_dict(), abs=1e-6)
    is_correct = predicted == targets
    accuracy_gap = abs(is_correct[group == "f"].mean() - is_correct[group == "m"].mean())
    assert metrics["accuracy_gap"]["value"] == pytest.approx(accuracy_gap, abs=1e-6)
    gaps = [value for name, value in metrics.items() if name != "groups"]
    assert all(gap["low"] <= gap["value"] <= gap["high"] for gap in gaps)
    assert metrics["selection_rate_gap"]["low"] > 0.05  # the gap exists, and not by chance
    assert result.report["sex"] == {
        "accuracy": "",
        "selection_rate": "yes",
        "tpr": "yes",
        "fpr": "yes",
    }


def test_the_intervals_of_gaps_are_as_wide_as_the_normal_approximation() -> None:
    group, targets, answers = draw_sample(200)
    metrics = measure_sexes(group.tolist(), tiny.TWO, targets, answers).metrics["sex"]
    is_counted_by_rate = {"selection_rate": np.ones(200, bool), "tpr": targets == 1}
    for rate, is_counted in is_counted_by_rate.items():
        variance = 0.0
        for sex in "fm":
            fraction = metrics["groups"][sex][rate]
            variance += fraction * (1 - fraction) / (is_counted & (group == sex)).sum()
        gap = metrics[f"{rate}_gap"]
        assert gap["high"] - gap["low"] == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.35)


def test_of_several_classes_or_labels_the_widest_gap_counts() -> None:
    rng = np.random.default_rng(0)
    group = np.array(["f", "m"] * 300)
    targets = rng.integers(0, 3, 600)
    is_wrong = (targets == 2) & (group == "f") & (rng.random(600) < 0.5)
    predicted = np.where(is_wrong, 0, targets)
    answers = np.full((600, 3), 0.1)
    answers[np.arange(600), predicted] = 0.8
    sexes = group.tolist()
    classes = measure_sexes(sexes, ClassificationProblem(THREE_CLASSES), targets, answers)
    assert classes.report["sex"]["tpr"] == "c"
    assert classes.report["sex"]["fpr"] == "a"
    tpr_of_women = (predicted == targets)[(targets == 2) & (group == "f")].mean()
    gap = classes.metrics["sex"]["tpr_gap"]["value"]
    assert gap == pytest.approx(1 - tpr_of_women, abs=1e-6)
    flags = np.eye(3, dtype=np.float32)[targets]
    labels = measure_sexes(sexes, MultilabelProblem(THREE_CLASSES), flags, answers)
    assert labels.metrics["sex"]["tpr_gap"]["value"] == gap


def test_small_groups_are_listed_and_count_in_no_gap() -> None:
    group, targets, answers = draw_sample()
    sexes = group.tolist()
    sexes[:2] = ["other", None]
    metrics = measure_sexes(sexes, tiny.TWO, targets, answers).metrics["sex"]
    assert metrics["groups"]["other"] == {"rows": 1}
    assert metrics["groups"]["(missing)"] == {"rows": 1}
    assert metrics["tpr_gap"]["value"] < 0.5


def test_without_two_large_groups_there_is_no_gap_so_that_a_rule_on_it_fails() -> None:
    group, targets, answers = draw_sample()
    few = measure_sexes(
        ["other", None, *group.tolist()[2:30]], tiny.TWO, targets[:30], answers[:30], support=25
    )
    assert set(few.metrics["sex"]) == {"groups"}
    single = measure_sexes(["f"] * 600, tiny.TWO, targets, answers)
    assert set(single.metrics["sex"]) == {"groups"}


def test_in_regression_the_errors_of_groups_are_compared() -> None:
    targets = np.zeros(100)
    answers = np.where(np.arange(100) % 2, 3.0, 1.0)[:, None]
    ages: list[object] = [20.0, 60.0] * 50
    problem = RegressionProblem(["value"])
    result = fairness.measure(
        make_case(("age", ages), problem, targets, answers, sensitive=["age"])
    )
    assert result is not None
    assert result.metrics["age"]["error_gap"]["value"] == 2.0
    assert set(result.metrics["age"]) == {"error_gap", "groups"}


def test_without_sensitive_columns_there_is_nothing_to_measure() -> None:
    group, targets, answers = draw_sample(40)
    assert fairness.measure(make_case(("sex", group.tolist()), tiny.TWO, targets, answers)) is None


def test_an_unknown_sensitive_column_is_named() -> None:
    group, targets, answers = draw_sample(40)
    case = make_case(("sex", group.tolist()), tiny.TWO, targets, answers, sensitive=["sxe"])
    sentence = r"evaluate.sensitive: the data has no column 'sxe' \(did you mean sex\?\)"
    with pytest.raises(StageError, match=sentence):
        fairness.measure(case)


def write_census_recipe(path: Path) -> None:
    """Write a recipe whose model does not see sex and race, but is judged by them."""
    recipe = yaml.safe_load((ROOT / "tests" / "recipes" / "uci-adult.yaml").read_text())
    pattern = Path(recipe["ingest"]["path"]).name
    recipe["ingest"]["path"] = str(CENSUS / pattern)
    hidden = {"relationship", "race", "sex", "capital_loss", "native_country"}
    features = recipe["columns"]["features"]
    recipe["columns"]["features"] = [name for name in features if name not in hidden]
    recipe["train"]["epochs"] = 1
    recipe["evaluate"] = {"resamples": 100, "sensitive": ["sex", "race"]}
    path.write_text(yaml.safe_dump(recipe))


@pytest.mark.skipif(not CENSUS.is_dir(), reason=f"{CENSUS} is not here")
def test_a_sensitive_column_that_is_no_feature_is_still_judged(here: Path) -> None:
    """The gaps between men and women are those that are known of the census."""
    write_census_recipe(here / "uci-adult.yaml")
    recipe = read_recipe(here / "uci-adult.yaml")
    paths = StagePaths(here / "data")
    assert "sex" not in (recipe.columns.features or ["sex"])
    tiny.through(recipe, paths.root, here / "checkpoints")
    metrics = Evaluation.read(paths.evaluation.metrics).aspects["fairness"]["sex"]
    gap = metrics["selection_rate_gap"]
    men = metrics["groups"]["Male"]
    women = metrics["groups"]["Female"]
    assert 0.05 < gap["low"] < gap["value"] < 0.3
    assert men["selection_rate"] > women["selection_rate"]
    assert men["rows"] + women["rows"] == files.read_table(paths.split.test).num_rows
