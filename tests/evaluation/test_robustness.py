"""Changes that keep the label: their effect on an input, and which answers count as kept."""

import dataclasses
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tasks import modalities
from tasks.contracts.model_info import CategoryColumn, NumberColumn
from tasks.evaluation import robustness
from tasks.evaluation.base import EvaluationContext
from tasks.modalities.image import decode_images
from tasks.problems.classification import ClassificationProblem
from tasks.problems.language import LanguageProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tests import tiny

TEXT = "Why, oh why does the export stop? It worked; nothing changed!"


@pytest.fixture(scope="module", params=["text", "image", "tabular"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EvaluationContext:
    return tiny.case(request.param, tmp_path_factory.mktemp("case"))


def change(case: Any, name: str, row: Any) -> Any:
    return robustness.build_perturbations(case)[name](row, random.Random(0))


def of(modality: str, **model_input: Any) -> Any:
    known = tiny.MODEL_INPUTS[modality]
    return SimpleNamespace(
        info=tiny.model_info(modality, input=known.model_copy(update=model_input))
    )


def test_what_is_said_of_changed_inputs_is_the_exported_models_and_the_same_each_time(
    case: EvaluationContext,
) -> None:
    found = robustness.measure(case)
    assert found is not None
    assert found.metrics == robustness.measure(case).metrics  # type: ignore[union-attr]
    assert list(found.metrics) == list(robustness.build_perturbations(case))
    for name, alter in robustness.build_perturbations(case).items():
        rng = random.Random(f"0-{name}")
        changed = modalities.predict(case.predictor, [alter(row, rng) for row in case.inputs])
        kept = (changed.argmax(1) == case.answers.argmax(1)).mean()
        assert found.metrics[name]["kept"]["value"] == pytest.approx(kept, abs=1e-6)
        assert found.metrics[name]["kept"]["low"] <= kept <= found.metrics[name]["kept"]["high"]
        assert found.metrics[name]["accuracy"] == pytest.approx(
            (changed.argmax(1) == case.targets).mean(), abs=1e-6
        )


def test_changes_of_a_text_leave_what_a_person_reads() -> None:
    typos = change(of("text"), "typos", TEXT * 5)
    assert typos != TEXT * 5
    assert sorted(typos) == sorted(TEXT * 5)
    assert [(word[0], word[-1]) for word in typos.split()] == [
        (word[0], word[-1]) for word in (TEXT * 5).split()
    ]
    assert change(of("text"), "case", TEXT).lower() == TEXT.lower()
    assert (
        change(of("text"), "punctuation", TEXT)
        == "Why oh why does the export stop It worked nothing changed"
    )
    assert change(of("text"), "white_space", TEXT).split() == TEXT.split()
    assert TEXT.startswith(change(of("text"), "truncation", TEXT))
    alike = change(of("text"), "look_alikes", TEXT * 5)
    assert len(alike) == len(TEXT * 5)
    assert (
        0 < sum(one != other for one, other in zip(alike, TEXT * 5, strict=True)) < 0.2 * len(alike)
    )


def test_a_text_that_nothing_would_be_left_of_stays(tmp_path: Path) -> None:
    case = tiny.case("text", tmp_path, epochs=1)
    marks = dataclasses.replace(
        case, inputs=["?!"] * 48, answers=modalities.predict(case.predictor, ["?!"] * 48)
    )
    assert robustness.measure(marks).metrics["punctuation"]["kept"]["value"] == 1  # type: ignore[union-attr]


def test_changes_of_an_image_keep_its_size_and_are_small() -> None:
    row = tiny.png(np.random.default_rng(0).integers(60, 190, (16, 16, 3)).astype("uint8"))
    before = decode_images([row]).astype(float)
    for name in ("shift", "rotate", "noise", "brightness"):
        after = decode_images([change(of("image", shape=(3, 16, 16)), name, row)]).astype(float)
        assert after.shape == before.shape
        assert 0 < np.abs(after - before).mean() < 60
    assert (
        np.abs(decode_images([change(of("image", shape=(3, 16, 16)), "noise", row)]) - before).std()
        < 13
    )
    bright = decode_images([change(of("image", shape=(3, 16, 16)), "brightness", row)]) / before
    assert np.abs(np.abs(bright - 1) - 0.2).max() < 0.02


def test_jitter_moves_numbers_alone_and_missing_takes_cells_out() -> None:
    columns = [
        NumberColumn(name="age", median=0.0, mean=0.0, std=10.0, has_missing=False),
        CategoryColumn(name="town", values=["Ulm"]),
        NumberColumn(name="size", median=0.0, mean=0.0, std=1.0, has_missing=False),
    ]
    row = {"age": "40", "town": "Ulm", "size": None}
    moved = change(of("tabular", columns=columns), "jitter", row)
    assert (moved["town"], moved["size"]) == ("Ulm", None)
    assert 0 < abs(moved["age"] - 40) < 5
    many = {f"c{number}": number for number in range(500)}
    gone = change(of("tabular", columns=[]), "missing", many)
    assert {name: cell for name, cell in gone.items() if cell is not None}.items() <= many.items()
    assert sum(cell is None for cell in gone.values()) == pytest.approx(50, abs=20)


def test_an_answer_stays_where_the_same_is_said_or_a_number_nearby() -> None:
    before, after = (
        np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.8]]),
        np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.3]]),
    )
    assert robustness.find_kept_answers(
        ClassificationProblem(["a", "b"]), before, after, 0.0
    ).tolist() == [
        True,
        False,
        True,
    ]
    assert robustness.find_kept_answers(
        MultilabelProblem(["a", "b"]), before, after, 0.0
    ).tolist() == [
        True,
        False,
        False,
    ]
    assert robustness.find_kept_answers(
        RegressionProblem(["value"]), np.array([[10.0], [10.0]]), np.array([[10.9], [11.1]]), 10.0
    ).tolist() == [True, False]


def test_a_language_model_has_no_labels_to_keep() -> None:
    context = SimpleNamespace(problem=LanguageProblem([]), recipe=SimpleNamespace(evaluate=None))
    assert robustness.measure(context) is None  # type: ignore[arg-type]
