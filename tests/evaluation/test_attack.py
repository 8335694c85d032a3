"""Attacks on the trained network.

The network is the exported model's, no row moves further than it may, and the attacks find what
theory predicts.
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


@pytest.fixture(scope="module", params=["text", "image", "tabular"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> EvaluationContext:
    return tiny.case(request.param, tmp_path_factory.mktemp("case"), epochs=6)


def build_model(trainer: Any) -> DifferentiableModel:
    """Build the model of an object that has only those attributes of a trainer that it reads."""
    return DifferentiableModel(trainer)


def said(
    inside: DifferentiableModel, case: EvaluationContext, rows: Sequence[object]
) -> np.ndarray:
    found = np.zeros((len(rows), case.problem.width))
    for batch in inside.batches(rows):
        found[batch.rows] = inside.outputs(batch.inputs, *batch.rest).softmax(1)
    return found


def test_the_trained_network_says_what_the_exported_model_says(case: EvaluationContext) -> None:
    assert said(DifferentiableModel(case.trainer), case, case.inputs) == pytest.approx(
        case.answers, abs=1e-4
    )


def test_also_after_pruning_and_of_words_that_training_did_not_meet(tmp_path: Path) -> None:
    model = test_compression.trained(tmp_path, test_compression.TEXT, "{prune: 0.3}")
    recipe = test_compression.recipe(tmp_path, test_compression.TEXT, "{prune: 0.3}")
    case = tiny.judged(recipe, model.parent)
    rows = ["an astronomer with seventeen telescopes", "two plums in box 9", "zebra"]
    assert said(DifferentiableModel(case.trainer), case, rows) == pytest.approx(
        modalities.predict(case.predictor, rows), abs=1e-4
    )


def test_no_row_moves_further_than_the_strength_or_out_of_its_bounds(
    case: EvaluationContext,
) -> None:
    inside = DifferentiableModel(case.trainer)
    space = attack.build_perturbation_space(inside)
    assert space is not None
    for batch in inside.batches(case.inputs):
        strengths = np.linspace(0.5, space.strengths[-1], len(batch.rows))
        for method in attack.METHODS:
            targets = torch.from_numpy(case.targets[batch.rows])
            moved, _ = Attack(inside, space, attack.METHODS[method]).run(batch, targets, strengths)
            change = (moved - batch.inputs).flatten(1)
            far = change.norm(dim=1) if space.is_euclidean else change.abs().amax(1)
            assert (far <= torch.from_numpy(strengths) * space.unit_size * 1.001 + 1e-5).all()
            assert far.max() > 0
            assert moved.min() >= space.bounds[0]
            assert moved.max() <= space.bounds[1]


def test_accuracy_falls_with_strength_from_the_networks_own(case: EvaluationContext) -> None:
    found = attack.measure(case)
    assert found is not None
    assert found.metrics == attack.measure(case).metrics  # type: ignore[union-attr]
    for method in attack.METHODS:
        values = [one["value"] for one in found.metrics[method].values()]
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx((case.answers.argmax(1) == case.targets).mean(), abs=1e-6)
        assert values[-1] < values[0]
    for item in found.report["examples"]:
        assert item["predicted"][0] != item["predicted"][1]
        assert 0 < item["strength"] < int(list(found.metrics["pgd"])[-1])


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("method", ["fgsm", "pgd"])
def test_a_linear_classifier_is_wrong_from_its_margin_over_the_norm_of_its_weights_on(
    method: str, euclidean: bool
) -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(5, 2)
    inside = build_model(SimpleNamespace(network=network))
    inputs = torch.randn(8, 5)
    targets = network(inputs).argmax(1)
    weights = (network.weight[0] - network.weight[1]).abs()
    margins = (network(inputs)[:, 0] - network(inputs)[:, 1]).abs() / (
        weights.norm() if euclidean else weights.sum()
    )
    space = PerturbationSpace((0, 1), "", 1.0, is_euclidean=euclidean)
    for share, expected in ((0.98, False), (1.02, True)):
        batch = DifferentiableBatch(list(range(8)), inputs, ())
        _, wrong = Attack(inside, space, attack.METHODS[method]).run(
            batch, targets, margins * share
        )
        assert (wrong == expected).all()


def test_categories_stay_and_a_table_of_them_alone_has_no_attack(tmp_path: Path) -> None:
    inside = build_model(SimpleNamespace(network=torch.nn.Linear(4, 2), columns=[CATEGORY, NUMBER]))
    space = attack.build_perturbation_space(inside)
    assert space is not None
    assert torch.as_tensor(space.mask).tolist() == [0, 0, 1, 0]
    inside = build_model(SimpleNamespace(network=torch.nn.Linear(2, 2), columns=[CATEGORY]))
    assert attack.build_perturbation_space(inside) is None


CATEGORY = CategoryColumn(name="town", values=["Bonn", "Ulm"])
NUMBER = NumberColumn(name="age", median=1.0, mean=0.0, std=1.0, has_missing=True)


def test_a_few_rows_are_enough_and_other_problems_have_none(tmp_path: Path) -> None:
    case = tiny.case("tabular", tmp_path)
    few = dataclasses.replace(
        case,
        test=case.test.slice(0, 1),
        inputs=case.inputs[:1],
        targets=case.targets[:1],
        answers=case.answers[:1],
    )
    assert attack.measure(few) is not None
    assert attack.measure(SimpleNamespace(problem=MultilabelProblem(["a", "b"]))) is None  # type: ignore[arg-type]
