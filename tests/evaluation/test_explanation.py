"""Explanations of predictions.

Attributions add up, the column that matters is found, a row is most similar to itself, and the
page shows all of it.
"""

import dataclasses
import html
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tasks import evaluate
from tasks.evaluation import explanation
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.differentiable import DifferentiableModel
from tasks.problems.language import LanguageProblem
from tasks.storage.layout import StagePaths
from tests import tiny


@pytest.fixture(scope="module", params=["text", "image", "tabular"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    tiny.case(request.param, path, epochs=6)
    return path


@pytest.fixture(scope="module")
def case(folder: Path) -> EvaluationContext:
    modality = re.sub(r"\d+$", "", folder.name)
    recipe = tiny.recipe(modality, folder, epochs=6)
    return tiny.judged(recipe, folder)


def explain(case: EvaluationContext) -> AspectResult:
    result = explanation.measure(case)
    assert result is not None
    return result


def test_attributions_sum_to_the_output_minus_that_of_the_baseline(
    case: EvaluationContext,
) -> None:
    model = DifferentiableModel(case.trainer)
    for batch in model.batches(case.inputs[:10]):
        positions = torch.ones(len(batch.rows), dtype=torch.int64)
        attributions = explanation.attribute_outputs(model, batch, positions)
        start = torch.zeros_like(batch.inputs) + getattr(model.network, "mean", 0.0)
        if model.embeddings:
            start = model.embeddings(torch.full_like(batch.rest[0], model.trainer.pad_id))
        outputs = model.outputs(batch.inputs, *batch.rest)
        start_outputs = model.outputs(start, *batch.rest)
        difference = (outputs - start_outputs)[:, 1]
        largest = float(difference.abs().max())
        sums = attributions.flatten(1).sum(1)
        assert sums.numpy() == pytest.approx(difference.numpy(), abs=0.05 * largest)
        assert largest > 0.1


def test_rows_are_of_the_kind_that_their_heading_names(case: EvaluationContext) -> None:
    rows = explain(case).report["rows"]
    unsure = [item for item in rows if item["kind"] == "Least certain"]
    others = [item for item in rows if item["kind"] != "Least certain"]
    for item in others:
        assert (item["true"] == item["predicted"]) == (item["kind"] == "Correct")
    assert len({item["id"] for item in rows}) == len(rows)
    assert len(unsure) == explanation.ROWS_PER_KIND
    certainty = dict(zip(case.test["id"].to_pylist(), case.answers.max(1), strict=True))
    most_unsure = max(certainty[item["id"]] for item in unsure)
    least_correct = min(certainty[item["id"]] for item in others if item["kind"] == "Correct")
    assert most_unsure <= least_correct


def test_a_training_row_is_most_like_itself(case: EvaluationContext) -> None:
    trained_on_test_rows = dataclasses.replace(case, train=case.test)
    for item in explain(trained_on_test_rows).report["rows"]:
        label, cosine, _ = item["similar"][0]
        assert cosine == pytest.approx(1, abs=1e-5)
        assert label == item["true"]


def test_the_page_shows_all_three_aspects_and_is_the_same_each_time(
    case: EvaluationContext, folder: Path
) -> None:
    pages = []
    metrics = []
    for name in ("first", "second"):
        evaluate.run(case.recipe, StagePaths(folder))
        (folder / "evaluation").rename(folder / name)
        page = (folder / name / "report.html").read_text()
        pages.append(page.partition(">Cost</h2>")[0])  # the part behind it has measured times
        metrics.append((folder / name / "metrics.json").read_bytes())
    assert pages[0] == pages[1]
    assert metrics[0] == metrics[1]
    assert len(pages[0]) < 200_000
    for heading in ("Robustness", "Attack", "Explanation"):
        assert pages[0].count(f">{heading}</h2>") == 1
    assert (">Attention</h2>" in pages[0]) == (case.recipe.modality == "text")
    assert (">Importance of columns</h2>" in pages[0]) == (case.recipe.modality == "tabular")


def test_the_column_that_makes_the_label_is_the_important_one(tmp_path: Path) -> None:
    case = tiny.case("tabular", tmp_path, epochs=12, learning_rate=0.03)
    importance = explain(case).metrics["importance"]
    assert set(importance) == {"a", "b"}
    assert importance["a"] > 0.05 + abs(importance["b"])


def test_coloured_tokens_are_the_text_and_attention_sums_to_one(tmp_path: Path) -> None:
    case = tiny.case("text", tmp_path, epochs=1)
    model = DifferentiableModel(case.trainer)
    row = "amber <basil>  Cedar & fjord"
    markup = model.render_tokens(row, [0.0, 1.0, -0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert html.unescape(re.sub(r"<[^<>]*>", "", markup)) == row
    assert 'var(--fill), 0.70)">amber<' in markup
    assert 'var(--cut), 0.35)">&lt;<' in markup
    tokens, weights = explanation.compute_attention(model, "amber basil cedar")
    assert tokens == ["[CLS]", "amber", "basil", "cedar", "[SEP]"]
    assert weights.sum(1) == pytest.approx(np.ones(5), abs=1e-5)


def test_a_language_model_has_no_explanation() -> None:
    case = SimpleNamespace(problem=LanguageProblem([]))
    assert explanation.measure(case) is None  # type: ignore[arg-type]
