"""Attacks on the trained network.

The attacked network is the exported model's, no row moves further than it may, and the attacks find
what theory predicts.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tasks import modalities
from tasks.contracts.model_info import CategoryColumn, NumberColumn
from tasks.evaluation import attack
from tasks.evaluation.attack import Attack, PerturbationSpace
from tasks.evaluation.base import EvaluationContext
from tasks.evaluation.differentiable import DifferentiableBatch, DifferentiableModel
from tasks.problems.multilabel import MultilabelProblem
from tests import tiny
from tests.training import test_compression

CATEGORY = CategoryColumn(name="town", values=["Bonn", "Ulm"])
NUMBER = NumberColumn(name="age", median=1.0, mean=0.0, std=1.0, has_missing=True)


@pytest.fixture(scope="module", params=["text", "image", "tabular"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EvaluationContext:
    return tiny.case(request.param, tmp_path_factory.mktemp("case"), epochs=6)


def build_model(trainer: Any) -> DifferentiableModel:
    """Build the model of an object that has only those attributes of a trainer that it reads."""
    return DifferentiableModel(trainer)


def predict(
    model: DifferentiableModel, case: EvaluationContext, rows: Sequence[object]
) -> np.ndarray:
    """Return the trained network's probabilities, shape [rows, classes]."""
    answers = np.zeros((len(rows), case.problem.width))
    for batch in model.batches(rows):
        answers[batch.rows] = model.outputs(batch.inputs, *batch.rest).softmax(1)
    return answers


def test_the_trained_network_predicts_what_the_exported_model_predicts(
    case: EvaluationContext,
) -> None:
    answers = predict(DifferentiableModel(case.trainer), case, case.inputs)
    assert answers == pytest.approx(case.answers, abs=1e-4)


def test_also_after_pruning_and_for_words_that_training_did_not_meet(tmp_path: Path) -> None:
    model = test_compression.trained(tmp_path, test_compression.TEXT, "{prune: 0.3}")
    recipe = test_compression.recipe(tmp_path, test_compression.TEXT, "{prune: 0.3}")
    case = tiny.judged(recipe, model.parent)
    rows = ["an astronomer with seventeen telescopes", "two plums in box 9", "zebra"]
    answers = predict(DifferentiableModel(case.trainer), case, rows)
    assert answers == pytest.approx(modalities.predict(case.predictor, rows), abs=1e-4)


def test_no_row_moves_further_than_the_strength_or_out_of_its_bounds(
    case: EvaluationContext,
) -> None:
    model = DifferentiableModel(case.trainer)
    space = attack.build_perturbation_space(model)
    assert space is not None
    for batch in model.batches(case.inputs):
        strengths = np.linspace(0.5, space.strengths[-1], len(batch.rows))
        targets = torch.from_numpy(case.targets[batch.rows])
        for method in attack.METHODS.values():
            moved, _ = Attack(model, space, method).run(batch, targets, strengths)
            change = (moved - batch.inputs).flatten(1)
            distance = change.norm(dim=1) if space.is_euclidean else change.abs().amax(1)
            radius = torch.from_numpy(strengths) * space.unit_size
            assert (distance <= radius * 1.001 + 1e-5).all()
            assert distance.max() > 0
            assert moved.min() >= space.bounds[0]
            assert moved.max() <= space.bounds[1]


def test_accuracy_falls_with_strength_from_the_networks_own(case: EvaluationContext) -> None:
    result = attack.measure(case)
    repeated = attack.measure(case)
    assert result is not None
    assert repeated is not None
    assert result.metrics == repeated.metrics
    accuracy = (case.answers.argmax(1) == case.targets).mean()
    for method in attack.METHODS:
        values = [interval["value"] for interval in result.metrics[method].values()]
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(accuracy, abs=1e-6)
        assert values[-1] < values[0]
    for example in result.report["examples"]:
        assert example["predicted"][0] != example["predicted"][1]
        assert 0 < example["strength"] < int(list(result.metrics["pgd"])[-1])


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_a_linear_classifier_errs_from_its_margin_over_the_norm_of_its_weights(
    method: str, euclidean: bool
) -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(5, 2)
    model = build_model(SimpleNamespace(network=network))
    inputs = torch.randn(8, 5)
    outputs = network(inputs)
    targets = outputs.argmax(1)
    weights = (network.weight[0] - network.weight[1]).abs()
    norm = weights.norm() if euclidean else weights.sum()
    margins = (outputs[:, 0] - outputs[:, 1]).abs() / norm
    space = PerturbationSpace((0, 1), "", 1.0, is_euclidean=euclidean)
    for fraction, expected in ((0.98, False), (1.02, True)):
        batch = DifferentiableBatch(list(range(8)), inputs, ())
        linear_attack = Attack(model, space, attack.METHODS[method])
        _, is_wrong = linear_attack.run(batch, targets, margins * fraction)
        assert (is_wrong == expected).all()


def test_categories_stay_and_a_table_of_them_alone_has_no_attack() -> None:
    mixed = SimpleNamespace(network=torch.nn.Linear(4, 2), columns=[CATEGORY, NUMBER])
    space = attack.build_perturbation_space(build_model(mixed))
    assert space is not None
    assert torch.as_tensor(space.mask).tolist() == [0, 0, 1, 0]
    categories = SimpleNamespace(network=torch.nn.Linear(2, 2), columns=[CATEGORY])
    assert attack.build_perturbation_space(build_model(categories)) is None


def test_one_row_is_enough(tmp_path: Path) -> None:
    case = tiny.case("tabular", tmp_path)
    first_row = dataclasses.replace(
        case,
        test=case.test.slice(0, 1),
        inputs=case.inputs[:1],
        targets=case.targets[:1],
        answers=case.answers[:1],
    )
    assert attack.measure(first_row) is not None


def test_several_labels_have_no_attack() -> None:
    case = SimpleNamespace(problem=MultilabelProblem(["a", "b"]))
    assert attack.measure(case) is None  # type: ignore[arg-type]
