"""Explanations: attributions, the importance of columns, similar training rows, and their page."""

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
from tasks.evaluation.base import EvaluationContext
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
    made = tiny.recipe(re.sub(r"\d+$", "", folder.name), folder, epochs=6)
    return tiny.judged(made, folder)


def test_attributions_sum_to_what_the_output_is_above_that_of_the_baseline(
    case: EvaluationContext,
) -> None:
    inside = DifferentiableModel(case.trainer)
    for batch in inside.batches(case.inputs[:10]):
        asked = torch.ones(len(batch.rows), dtype=torch.int64)
        found = explanation.attribute_outputs(inside, batch, asked)
        start = torch.zeros_like(batch.inputs) + getattr(inside.network, "mean", 0.0)
        if inside.embeddings:
            start = inside.embeddings(torch.full_like(batch.rest[0], inside.trainer.pad_id))
        above = (inside.outputs(batch.inputs, *batch.rest) - inside.outputs(start, *batch.rest))[
            :, 1
        ]
        assert found.flatten(1).sum(1).numpy() == pytest.approx(
            above.numpy(), abs=0.05 * float(above.abs().max())
        )
        assert above.abs().max() > 0.1


def test_rows_of_each_kind_are_what_their_heading_says(case: EvaluationContext) -> None:
    found = explanation.measure(case)
    assert found is not None
    rows = found.report["rows"]
    assert all(
        (item["true"] == item["predicted"]) == (item["kind"] == "Right")
        for item in rows
        if item["kind"] != "Least certain"
    )
    assert len({item["id"] for item in rows}) == len(rows)
    unsure = {item["id"] for item in rows if item["kind"] == "Least certain"}
    certain = dict(zip(case.test["id"].to_pylist(), case.answers.max(1), strict=True))
    assert len(unsure) == explanation.ROWS_PER_KIND
    assert max(certain[name] for name in unsure) <= min(
        certain[item["id"]] for item in rows if item["kind"] == "Right"
    )


def test_a_training_row_is_most_like_itself(case: EvaluationContext) -> None:
    seen = dataclasses.replace(case, train=case.test)
    inside = explanation.measure(seen)
    assert inside is not None
    assert all(
        item["similar"][0][1] == pytest.approx(1, abs=1e-5) for item in inside.report["rows"]
    )
    assert [item["similar"][0][0] for item in inside.report["rows"]] == [
        item["true"] for item in inside.report["rows"]
    ]


def test_the_page_shows_all_three_aspects_and_is_the_same_each_time(
    case: EvaluationContext, folder: Path
) -> None:
    pages = []
    for name in ("one", "other"):
        evaluate.run(case.recipe, StagePaths(folder))
        (folder / "evaluation").rename(folder / name)
        page = (folder / name / "report.html").read_text()
        pages.append(page.partition(">Cost</h2>")[0])  # what follows was measured with a clock
    assert pages[0] == pages[1]
    one = (folder / "one" / "metrics.json").read_bytes()
    assert one == (folder / "other" / "metrics.json").read_bytes()
    assert len(pages[0]) < 200_000
    for heading in ("Robustness", "Attack", "Explanation"):
        assert pages[0].count(f">{heading}</h2>") == 1
    assert (">Attention</h2>" in pages[0]) == (case.recipe.modality == "text")
    assert (">Importance of columns</h2>" in pages[0]) == (case.recipe.modality == "tabular")


def test_the_column_that_makes_the_label_is_the_important_one(tmp_path: Path) -> None:
    case = tiny.case("tabular", tmp_path, epochs=12, learning_rate=0.03)
    importance = explanation.measure(case).metrics["importance"]  # type: ignore[union-attr]
    assert set(importance) == {"a", "b"}
    assert importance["a"] > 0.05 + abs(importance["b"])


def test_coloured_tokens_are_the_text_and_attention_is_shared_out(tmp_path: Path) -> None:
    case = tiny.case("text", tmp_path, epochs=1)
    inside, row = DifferentiableModel(case.trainer), "amber <basil>  Cedar & fjord"
    counts = inside.render_tokens(row, [0.0, 1.0, -0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert html.unescape(re.sub(r"<[^<>]*>", "", counts)) == row
    assert 'var(--fill), 0.70)">amber<' in counts
    assert 'var(--cut), 0.35)">&lt;<' in counts
    tokens, weights = explanation.compute_attention(inside, "amber basil cedar")
    assert tokens == ["[CLS]", "amber", "basil", "cedar", "[SEP]"]
    assert weights.sum(1) == pytest.approx(np.ones(5), abs=1e-5)


def test_a_language_model_has_none() -> None:
    assert explanation.measure(SimpleNamespace(problem=LanguageProblem([]))) is None  # type: ignore[arg-type]
