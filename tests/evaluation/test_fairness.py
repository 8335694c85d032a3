"""Fairness: rates by group, gaps with intervals, and groups that are too small to tell.

The rates are compared with fairlearn's, and with those that are known of a census.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    false_positive_rate,
    true_positive_rate,
)  # type: ignore[import-untyped]

from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import StageError
from tasks.evaluation import fairness
from tasks.problems.classification import ClassificationProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.loading import read_recipe
from tasks.storage import files
from tests import tiny
from tests.conftest import ROOT
from tests.evaluation.test_calibration import case as of_answers
from tests.test_recipes import REAL_DATA

CENSUS = REAL_DATA / "uci_adult"


def case(columns: dict[str, Any], problem: Any, targets: Any, answers: Any, **section: Any) -> Any:
    import dataclasses

    import pyarrow as pa

    made = of_answers(problem, targets, answers, **section)
    return dataclasses.replace(
        made, test=pa.table({"id": [str(n) for n in range(len(targets))], **columns})
    )


def drawn(count: int = 600) -> tuple[Any, Any, Any]:
    """Two groups of which one is given the class less often, whether it has it or not."""
    rng = np.random.default_rng(0)
    group = rng.choice(["f", "m"], count, p=[0.4, 0.6])
    targets = (rng.random(count) < 0.4).astype(np.int64)
    sure = np.clip(
        0.35 + 0.3 * targets - 0.15 * (group == "f") + rng.normal(size=count) * 0.2, 0.01, 0.99
    )
    return group, targets, np.stack([1 - sure, sure], 1)


def test_gaps_of_two_classes_are_fairlearns_and_have_intervals() -> None:
    group, targets, answers = drawn()
    found = fairness.measure(
        case({"sex": group.tolist()}, tiny.TWO, targets, answers, sensitive=["sex"])
    )
    assert found is not None
    about, said = found.metrics["sex"], answers.argmax(1)
    assert about["selection_rate_gap"]["value"] == pytest.approx(
        demographic_parity_difference(targets, said, sensitive_features=group), abs=1e-6
    )
    for name, rate in (("tpr", true_positive_rate), ("fpr", false_positive_rate)):
        frame = MetricFrame(metrics=rate, y_true=targets, y_pred=said, sensitive_features=group)
        assert about[f"{name}_gap"]["value"] == pytest.approx(frame.difference(), abs=1e-6)
        assert {g: about["groups"][g][name] for g in "fm"} == pytest.approx(
            frame.by_group.to_dict(), abs=1e-6
        )
    assert about["accuracy_gap"]["value"] == pytest.approx(
        abs(np.subtract(*[(said == targets)[group == g].mean() for g in "fm"])), abs=1e-6
    )
    assert all(
        gap["low"] <= gap["value"] <= gap["high"] for name, gap in about.items() if name != "groups"
    )
    assert about["selection_rate_gap"]["low"] > 0.05  # it is there, and not by chance
    assert found.report["sex"] == {
        "accuracy": "",
        "selection_rate": "yes",
        "tpr": "yes",
        "fpr": "yes",
    }


def test_the_bootstrap_draws_the_same_rates_that_the_frame_has() -> None:
    group, targets, answers = drawn(200)
    made = case({"sex": group.tolist()}, tiny.TWO, targets, answers, sensitive=["sex"])
    about = fairness.measure(made)
    assert about is not None
    width = [
        about.metrics["sex"][f"{rate}_gap"]["high"] - about.metrics["sex"][f"{rate}_gap"]["low"]
        for rate in ("selection_rate", "tpr")
    ]
    counts = (
        [(group == g).sum() for g in "fm"],
        [((group == g) & (targets == 1)).sum() for g in "fm"],
    )
    for found, rows, rate in zip(width, counts, ("selection_rate", "tpr"), strict=True):
        shares = [about.metrics["sex"]["groups"][g][rate] for g in "fm"]
        normal = (
            2
            * 1.96
            * np.sqrt(sum(share * (1 - share) / n for share, n in zip(shares, rows, strict=True)))
        )
        assert found == pytest.approx(normal, rel=0.35)


def test_of_several_classes_the_widest_gap_counts_and_of_labels_too() -> None:
    rng = np.random.default_rng(0)
    group, targets = np.array(["f", "m"] * 300), rng.integers(0, 3, 600)
    predicted = np.where((targets == 2) & (group == "f") & (rng.random(600) < 0.5), 0, targets)
    answers = np.full((600, 3), 0.1)
    answers[np.arange(600), predicted] = 0.8
    three = fairness.measure(
        case(
            {"sex": group.tolist()},
            ClassificationProblem(["a", "b", "c"]),
            targets,
            answers,
            sensitive=["sex"],
        )
    )
    assert (
        three is not None
        and three.report["sex"]["tpr"] == "c"
        and three.report["sex"]["fpr"] == "a"
    )
    assert three.metrics["sex"]["tpr_gap"]["value"] == pytest.approx(
        1 - (predicted == targets)[(targets == 2) & (group == "f")].mean(), abs=1e-6
    )
    flags = np.eye(3, dtype=np.float32)[targets]
    labels = fairness.measure(
        case(
            {"sex": group.tolist()},
            MultilabelProblem(["a", "b", "c"]),
            flags,
            answers,
            sensitive=["sex"],
        )
    )
    assert (
        labels is not None
        and labels.metrics["sex"]["tpr_gap"]["value"] == three.metrics["sex"]["tpr_gap"]["value"]
    )


def test_small_groups_are_listed_and_count_in_no_gap() -> None:
    group, targets, answers = drawn()
    named = group.tolist()
    named[:2] = ["other", None]
    found = fairness.measure(case({"sex": named}, tiny.TWO, targets, answers, sensitive=["sex"]))
    assert found is not None
    assert (
        found.metrics["sex"]["groups"]["other"]
        == {"rows": 1}
        == found.metrics["sex"]["groups"]["(missing)"]
    )
    assert found.metrics["sex"]["tpr_gap"]["value"] < 0.5
    few = fairness.measure(
        case(
            {"sex": named[:30]}, tiny.TWO, targets[:30], answers[:30], sensitive=["sex"], support=25
        )
    )
    assert few is not None and set(few.metrics["sex"]) == {
        "groups"
    }  # so that a rule on a gap fails
    alone = fairness.measure(
        case({"sex": ["f"] * 600}, tiny.TWO, targets, answers, sensitive=["sex"])
    )
    assert alone is not None and set(alone.metrics["sex"]) == {"groups"}


def test_of_numbers_that_are_predicted_the_errors_of_groups_are_compared() -> None:
    targets = np.zeros(100)
    answers = np.where(np.arange(100) % 2, 3.0, 1.0)[:, None]
    found = fairness.measure(
        case(
            {"age": [20.0, 60.0] * 50},
            RegressionProblem(["value"]),
            targets,
            answers,
            sensitive=["age"],
        )
    )
    assert found is not None
    assert found.metrics["age"]["error_gap"]["value"] == 2.0 and set(found.metrics["age"]) == {
        "error_gap",
        "groups",
    }


def test_without_sensitive_columns_there_is_nothing_and_an_unknown_one_is_named() -> None:
    group, targets, answers = drawn(40)
    assert fairness.measure(case({"sex": group.tolist()}, tiny.TWO, targets, answers)) is None
    with pytest.raises(
        StageError, match=r"evaluate.sensitive: the data has no column 'sxe' \(did you mean sex\?\)"
    ):
        fairness.measure(
            case({"sex": group.tolist()}, tiny.TWO, targets, answers, sensitive=["sxe"])
        )


@pytest.mark.skipif(not CENSUS.is_dir(), reason=f"{CENSUS} is not here")
def test_a_sensitive_column_that_is_no_feature_is_still_there_to_be_judged(here: Path) -> None:
    """The model of the census gets neither sex nor race; its gaps between them are known."""
    text = (ROOT / "tests" / "recipes" / "uci-adult.yaml").read_text()
    text = text.replace(
        "relationship, race, sex, capital_gain, capital_loss, hours_per_week, native_country]\n"
        "clean",
        "capital_gain, hours_per_week]\nclean",
    )
    text = text.replace("../shared/data/uci_adult", str(CENSUS)).replace(
        "dropout: 0.2}", "dropout: 0.2, epochs: 1}"
    )
    (here / "uci-adult.yaml").write_text(
        text + "evaluate: {resamples: 100, sensitive: [sex, race]}\n"
    )
    made, folder = read_recipe(here / "uci-adult.yaml"), here / "data"
    assert "sex" not in (made.columns.features or ["sex"])
    tiny.through(made, folder, here / "checkpoints")
    about = Evaluation.read(folder / "evaluation" / "metrics.json").aspects["fairness"]["sex"]
    assert 0.05 < about["selection_rate_gap"]["low"] < about["selection_rate_gap"]["value"] < 0.3
    assert about["groups"]["Male"]["selection_rate"] > about["groups"]["Female"]["selection_rate"]
    assert (
        about["groups"]["Male"]["rows"] + about["groups"]["Female"]["rows"]
        == files.read_table(folder / "split" / "test.parquet").num_rows
    )
