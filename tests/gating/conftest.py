"""Fixtures of the gate's tests."""

from pathlib import Path

import pytest

from tasks import evaluate, train
from tasks.recipe import metric_names
from tasks.rows import rejected_rows
from tasks.storage import files, hashing
from tasks.storage.layout import SUITES, StagePaths
from tests import tiny
from tests.gating.helpers import ASPECTS, FLOOR, Trained, with_gate


@pytest.fixture
def aspects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an evaluation have these aspects, whichever there are."""
    monkeypatch.setattr(metric_names, "ASPECTS", ASPECTS)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A small table's model with its evaluation, and the checks that let it pass."""
    paths = StagePaths(tmp_path_factory.mktemp("gate"))
    recipe = tiny.recipe("tabular", paths.root, epochs=20)
    tiny.split("tabular", paths.split.path, 200)
    files.write_table(paths.split.test, tiny.table("tabular", 700, 120))
    no_rows = tiny.table("tabular", 900, 0)
    files.write_table(paths.split.rejects, rejected_rows.build_rejects(no_rows, "split", ""))
    train.run(recipe, paths, paths.root / "checkpoints")
    evaluate.run(recipe, paths)
    snapshot = hashing.hash_json([hashing.sha256(path) for path in paths.split.tables()])
    for suite in SUITES:
        write_passed(paths.checks(suite).passed, snapshot)
    floor = {**FLOOR, "bound": 0.5}
    champion = {"rule": "champion", "metric": "accuracy", "margin": 0.3}
    return with_gate(recipe, floor, champion), paths


def write_passed(path: Path, snapshot: str) -> None:
    files.write_json(path, {"snapshot": snapshot})
