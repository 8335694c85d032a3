"""Cost.

The counted files are those that serving needs, times lie beside the metrics, and the report that
shows both needs no other file.
"""

import multiprocessing
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tasks import evaluate, modalities, train
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.model_info import ModelInfo
from tasks.core import stage
from tasks.registry import manifests
from tasks.reports import html_pages
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests import tiny

WRITE_BASE = {"text": tiny.base, "causal_lm": tiny.decoder}


@pytest.fixture(scope="module", params=["text", "image", "tabular", "causal_lm"])
def paths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> StagePaths:
    """A model of each modality with its evaluation."""
    modality = request.param
    folder: Path = tmp_path_factory.mktemp(modality)
    paths = StagePaths(folder)
    if modality in WRITE_BASE:
        WRITE_BASE[modality](folder / "base")
    tiny.split(modality, paths.split.path)
    files.write_table(paths.split.test, tiny.table(modality, 800, 24))
    recipe = tiny.recipe(modality, folder)
    train.run(recipe, paths, folder / "checkpoints")
    evaluate.run(recipe, paths)
    return paths


def test_the_files_that_are_counted_suffice_to_serve(paths: StagePaths, tmp_path: Path) -> None:
    metrics = Evaluation.read(paths.evaluation.metrics).aspects["cost"]
    for name, file in manifests.list_model_files(
        paths.model.path, ModelInfo.read(paths.model.info)
    ).items():
        if file.serving:
            shutil.copy(paths.model.path / name, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert metrics["bytes"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert metrics["parameters"] > 0
    recipe = tiny.recipe(ModelInfo.read(paths.model.info).modality, paths.root)
    rows = modalities.extract_inputs(recipe, files.read_table(paths.split.test))
    answers = modalities.load_predictor(paths.model.path)(rows)
    answers_of_copy = modalities.load_predictor(tmp_path)(rows)
    assert np.array_equal(answers_of_copy, answers)


def test_times_are_in_a_file_of_their_own(paths: StagePaths) -> None:
    timings = files.read_json(paths.evaluation.cost)
    for size in (1, 32):
        latency = timings[f"latency_ms_batch_{size}"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
        assert latency["calls"] >= 2
    assert timings["rows_per_s"] > 32
    assert 0 < timings["load_s"] < 60
    metrics = Evaluation.read(paths.evaluation.metrics).aspects["cost"]
    assert not set(metrics) & set(timings)


def test_the_metrics_are_the_same_when_evaluated_again(paths: StagePaths, tmp_path: Path) -> None:
    copy = StagePaths(tmp_path)
    shutil.copytree(paths.split.path, copy.split.path)
    shutil.copytree(paths.model.path, copy.model.path)
    recipe = tiny.recipe(ModelInfo.read(paths.model.info).modality, paths.root)
    evaluate.run(recipe, copy)
    assert copy.evaluation.metrics.read_bytes() == paths.evaluation.metrics.read_bytes()


def test_the_report_refers_to_nothing_outside_and_lists_its_parts(paths: StagePaths) -> None:
    page = paths.evaluation.page.read_text()
    assert not re.search(r"""(src|href|url|action)\s*[=(]\s*["']?(?!["'#]|data:)\S""", page)
    assert not re.search(r"https?://|@import|<script|<link", page)
    anchors = re.findall(r'<h2 id="([^"]+)"', page)
    listed = re.findall(r'<a href="#([^"]+)"', page)
    assert anchors == listed
    assert {"metrics", "privacy", "cost"} <= set(anchors)
    assert len(anchors) == len(set(anchors)) == page.count("<h2")
    assert page.count("<table") == page.count('<div class="wide"><table')
    assert len(page.encode()) < 3e6


def test_a_heading_gets_an_anchor_of_its_words_and_is_listed() -> None:
    contents: list[tuple[str, str]] = []
    source = (
        '{% from "heading.html" import heading with context %}{{ heading("Worst & best of all") }}'
    )
    page = html_pages.TEMPLATES.from_string(source).render(contents=contents)
    assert page == '<h2 id="worst-&amp;-best-of-all">Worst &amp; best of all</h2>'
    assert contents == [("worst-&-best-of-all", "Worst & best of all")]


def test_memory_is_that_of_the_process_alone() -> None:
    ballast = np.ones(600 << 17)  # 600 MiB
    assert stage.measure_peak_memory()["peak_memory_mib"] > 600
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        child = pool.submit(stage.measure_peak_memory).result()
    assert 5 < child["peak_memory_mib"] < 500
    assert len(ballast)
