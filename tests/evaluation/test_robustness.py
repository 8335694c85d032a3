"""Robustness: what each perturbation does to an input, and which predictions count as kept."""

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
LONG_TEXT = TEXT * 5


@pytest.fixture(scope="module", params=["text", "image", "tabular"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EvaluationContext:
    return tiny.case(request.param, tmp_path_factory.mktemp("case"))


def perturb(name: str, row: Any, modality: str, **model_input: Any) -> Any:
    """Perturb a row of a model of this modality."""
    defaults = tiny.MODEL_INPUTS[modality]
    info = tiny.model_info(modality, input=defaults.model_copy(update=model_input))
    case: Any = SimpleNamespace(info=info)
    return robustness.build_perturbations(case)[name](row, random.Random(0))


def test_metrics_of_perturbed_inputs_are_the_exported_models_and_repeatable(
    case: EvaluationContext,
) -> None:
    result = robustness.measure(case)
    repeated = robustness.measure(case)
    assert result is not None
    assert repeated is not None
    assert result.metrics == repeated.metrics
    perturbations = robustness.build_perturbations(case)
    assert list(result.metrics) == list(perturbations)
    for name, perturbation in perturbations.items():
        metrics = result.metrics[name]
        rng = random.Random(f"0-{name}")
        rows = [perturbation(row, rng) for row in case.inputs]
        predicted = modalities.predict(case.predictor, rows).argmax(1)
        kept = (predicted == case.answers.argmax(1)).mean()
        accuracy = (predicted == case.targets).mean()
        assert metrics["kept"]["value"] == pytest.approx(kept, abs=1e-6)
        assert metrics["kept"]["low"] <= kept <= metrics["kept"]["high"]
        assert metrics["accuracy"] == pytest.approx(accuracy, abs=1e-6)


def first_and_last_letters(text: str) -> list[tuple[str, str]]:
    return [(word[0], word[-1]) for word in text.split()]


def test_typos_swap_letters_inside_words() -> None:
    typos = perturb("typos", LONG_TEXT, "text")
    assert typos != LONG_TEXT
    assert sorted(typos) == sorted(LONG_TEXT)
    assert first_and_last_letters(typos) == first_and_last_letters(LONG_TEXT)


def test_changes_of_a_text_leave_what_a_person_reads() -> None:
    without_marks = "Why oh why does the export stop It worked nothing changed"
    assert perturb("case", TEXT, "text").lower() == TEXT.lower()
    assert perturb("punctuation", TEXT, "text") == without_marks
    assert perturb("white_space", TEXT, "text").split() == TEXT.split()
    assert TEXT.startswith(perturb("truncation", TEXT, "text"))


def test_a_few_letters_are_replaced_by_look_alikes() -> None:
    look_alikes = perturb("look_alikes", LONG_TEXT, "text")
    assert len(look_alikes) == len(LONG_TEXT)
    pairs = zip(look_alikes, LONG_TEXT, strict=True)
    n_replaced = sum(after != before for after, before in pairs)
    assert 0 < n_replaced < 0.2 * len(LONG_TEXT)


def test_a_text_that_would_become_empty_stays(tmp_path: Path) -> None:
    case = tiny.case("text", tmp_path, epochs=1)
    marks = ["?!"] * 48
    answers = modalities.predict(case.predictor, marks)
    result = robustness.measure(dataclasses.replace(case, inputs=marks, answers=answers))
    assert result is not None
    assert result.metrics["punctuation"]["kept"]["value"] == 1


def test_changes_of_an_image_keep_its_size_and_are_small() -> None:
    pixels = np.random.default_rng(0).integers(60, 190, (16, 16, 3)).astype("uint8")
    image = tiny.png(pixels)
    before = decode_images([image]).astype(float)
    perturbed = {}
    for name in ("shift", "rotate", "noise", "brightness"):
        changed = perturb(name, image, "image", shape=(3, 16, 16))
        perturbed[name] = decode_images([changed]).astype(float)
        assert perturbed[name].shape == before.shape
        assert 0 < np.abs(perturbed[name] - before).mean() < 60
    assert np.abs(perturbed["noise"] - before).std() < 13
    relative_change = np.abs(perturbed["brightness"] / before - 1)
    assert np.abs(relative_change - 0.2).max() < 0.02


def test_jitter_moves_numbers_alone() -> None:
    columns = [
        NumberColumn(name="age", median=0.0, mean=0.0, std=10.0, has_missing=False),
        CategoryColumn(name="town", values=["Ulm"]),
        NumberColumn(name="size", median=0.0, mean=0.0, std=1.0, has_missing=False),
    ]
    row = {"age": "40", "town": "Ulm", "size": None}
    moved = perturb("jitter", row, "tabular", columns=columns)
    assert moved["town"] == "Ulm"
    assert moved["size"] is None
    assert 0 < abs(moved["age"] - 40) < 5


def test_missing_empties_a_tenth_of_the_cells() -> None:
    row = {f"c{number}": number for number in range(500)}
    emptied = perturb("missing", row, "tabular", columns=[])
    left = {name: cell for name, cell in emptied.items() if cell is not None}
    assert left.items() <= row.items()
    assert len(emptied) - len(left) == pytest.approx(50, abs=20)


def test_a_prediction_is_kept_if_its_classes_stay_or_its_number_is_close() -> None:
    before = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.8]])
    after = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.3]])
    classes = ClassificationProblem(["a", "b"])
    labels = MultilabelProblem(["a", "b"])
    number = RegressionProblem(["value"])
    is_class_kept = robustness.find_kept_answers(classes, before, after, 0.0)
    assert is_class_kept.tolist() == [True, False, True]
    are_labels_kept = robustness.find_kept_answers(labels, before, after, 0.0)
    assert are_labels_kept.tolist() == [True, False, False]
    numbers_before = np.array([[10.0], [10.0]])
    numbers_after = np.array([[10.9], [11.1]])
    is_number_kept = robustness.find_kept_answers(number, numbers_before, numbers_after, 10.0)
    assert is_number_kept.tolist() == [True, False]


def test_a_language_model_has_no_labels_to_keep() -> None:
    case = SimpleNamespace(problem=LanguageProblem([]), recipe=SimpleNamespace(evaluate=None))
    assert robustness.measure(case) is None  # type: ignore[arg-type]
