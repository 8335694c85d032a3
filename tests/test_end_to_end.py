"""One pipeline, two front doors: `dvc repro` and the flow share one cache, and the flow promotes what `dvc repro` made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


def call(here: Path, *command: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "PREFECT_"))}
    environment = {**clean, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(here)}
    return subprocess.run([str(BIN / command[0]), *command[1:]], cwd=here, env=environment, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of its own, with digits made quick."""
    here = tmp_path_factory.mktemp("clone")
    for name in ("tasks", "flows", "recipes"):
        shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "constraints.txt", ".dvcignore", "params.yaml"):
        shutil.copy(ROOT / name, here / name)
    (here / "data" / "sources").mkdir(parents=True)
    recipe = here / "recipes" / "digits.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 40", "epochs: 8").replace("bound: 0.97", "bound: 0.9"))
    assert call(here, "dvc", "init", "--no-scm", "-q").returncode == 0
    return here


def records(here: Path) -> list[dict[str, object]]:
    return sorted((json.loads(path.read_text()) for path in (here / "runs").glob("*.json")), key=lambda record: str(record["ended"]))


def test_the_flow_runs_nothing_after_dvc_repro_promotes_it_and_then_finds_nothing_to_do(clone: Path) -> None:
    made = call(clone, "dvc", "repro", "gate@digits")
    assert made.returncode == 0, made.stdout + made.stderr
    lock = (clone / "dvc.lock").read_bytes()
    first = call(clone, "millrace", "run", "digits")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Promoted: digits" in first.stdout
    assert (clone / "dvc.lock").read_bytes() == lock
    assert {stage["state"] for stage in records(clone)[0]["stages"]} == {"cached"}  # type: ignore[attr-defined]
    second = call(clone, "millrace", "run", "digits")
    assert "Unchanged: digits" in second.stdout
    status = json.loads(call(clone, "millrace", "status", "digits", "--json").stdout)
    assert (status["generation"], status["version"]) == (1, records(clone)[0]["version"])
    again = call(clone, "dvc", "repro", "gate@digits")
    assert "Running stage" not in again.stdout
    assert not (clone / ".millrace" / "s3" / "server.json").exists()


def test_a_changed_key_makes_stale_what_is_downstream_and_nothing_else(clone: Path) -> None:
    recipe = clone / "recipes" / "digits.yaml"
    recipe.write_text(recipe.read_text().replace("bound: 0.9}", "bound: 0.99999}"))
    ended = call(clone, "millrace", "run", "digits")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "Rejected: accuracy" in ended.stdout
    ran = [stage["stage"] for stage in records(clone)[-1]["stages"] if stage["state"] != "cached"]  # type: ignore[attr-defined]
    assert ran == ["resolve@digits", "gate@digits"]


def test_an_unknown_recipe_is_a_mistake_with_the_registered_names(clone: Path) -> None:
    ended = call(clone, "millrace", "run", "digit")
    assert ended.returncode == 2
    assert "'digit' is not a registered recipe (did you mean digits?)" in ended.stderr
