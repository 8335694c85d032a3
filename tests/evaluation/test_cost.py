"""Cost of a model: sizes and operations that serving needs, times, and the report of both."""

import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tasks import evaluate, modalities, train
from tasks.contracts.evaluation import Evaluation
from tasks.core import stage
from tasks.evaluation import cost
from tasks.reports import html_pages
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests import tiny


@pytest.fixture(scope="module", params=["text", "image", "tabular", "causal_lm"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each modality with its evaluation."""
    made: Path = tmp_path_factory.mktemp(request.param)
    if request.param in ("text", "causal_lm"):
        {"text": tiny.base, "causal_lm": tiny.decoder}[request.param](made / "base")
    tiny.split(request.param, made / "split")
    files.write_table(made / "split" / "test.parquet", tiny.table(request.param, 800, 24))
    recipe = tiny.recipe(request.param, made)
    train.run(recipe, StagePaths(made), made / "checkpoints")
    evaluate.run(recipe, StagePaths(made))
    return made


def test_the_files_that_are_counted_suffice_to_serve(folder: Path, tmp_path: Path) -> None:
    counted = Evaluation.read(folder / "evaluation" / "metrics.json").aspects["cost"]
    for path in (folder / "model").iterdir():
        if path.name not in cost.TRAINING_ONLY_FILES:
            shutil.copy(path, tmp_path)
    assert counted["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    recipe = tiny.recipe(files.read_json(folder / "model" / "model.json")["modality"], folder)
    rows = modalities.extract_inputs(recipe, files.read_table(folder / "split" / "test.parquet"))
    assert np.array_equal(
        modalities.load_predictor(tmp_path)(rows), modalities.load_predictor(folder / "model")(rows)
    )
    assert counted["parameters"] > 0


def test_what_a_clock_says_lies_beside_the_metrics_which_are_the_same_again(
    folder: Path, tmp_path: Path
) -> None:
    timed = files.read_json(folder / "evaluation" / "cost.json")
    for size in (1, 32):
        one = timed[f"latency_ms_batch_{size}"]
        assert 0 < one["p50"] <= one["p95"] <= one["p99"]
        assert one["calls"] >= 2
    assert timed["rows_per_s"] > 32
    assert 0 < timed["load_s"] < 60
    recipe = tiny.recipe(files.read_json(folder / "model" / "model.json")["modality"], folder)
    again = StagePaths(tmp_path)
    shutil.copytree(folder / "split", again.split.path)
    shutil.copytree(folder / "model", again.model.path)
    evaluate.run(recipe, again)
    metrics = StagePaths(folder).evaluation.metrics
    assert again.evaluation.metrics.read_bytes() == metrics.read_bytes()
    assert not set(Evaluation.read(metrics).aspects["cost"]) & set(timed)


def test_the_report_refers_to_nothing_outside_and_lists_its_parts(folder: Path) -> None:
    report = (folder / "evaluation" / "report.html").read_text()
    assert not re.search(r"""(src|href|url|action)\s*[=(]\s*["']?(?!["'#]|data:)\S""", report)
    assert not re.search(r"https?://|@import|<script|<link", report)
    anchors, listed = (
        re.findall(pattern, report) for pattern in (r'<h2 id="([^"]+)"', r'<a href="#([^"]+)"')
    )
    assert anchors == listed
    assert {"metrics", "privacy", "cost"} <= set(anchors)
    assert len(anchors) == len(set(anchors)) == report.count("<h2")
    assert report.count("<table") == report.count('<div class="wide"><table')
    assert len(report.encode()) < 3e6


def test_a_heading_gets_an_anchor_of_its_words_and_is_listed() -> None:
    contents: list[tuple[str, str]] = []
    source = (
        '{% from "heading.html" import heading with context %}{{ heading("Worst & best of all") }}'
    )
    assert (
        html_pages.TEMPLATES.from_string(source).render(contents=contents)
        == '<h2 id="worst-&amp;-best-of-all">Worst &amp; best of all</h2>'
    )
    assert contents == [("worst-&-best-of-all", "Worst & best of all")]


def test_memory_is_that_of_the_process_alone() -> None:
    hoard = np.ones(600 << 17)  # 600 MiB
    assert stage.measure_peak_memory()["peak_memory_mib"] > 600
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert 5 < pool.submit(stage.measure_peak_memory).result()["peak_memory_mib"] < 500
    assert len(hoard)
