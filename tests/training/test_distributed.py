"""Several processes: the same losses as one, and going on after one of them was killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.recipe.recipe import Recipe
from tasks.recipe.resolved import ResolvedRecipe
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tests import tiny
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
STEP = ["-m", "tasks.train", "tiny"]
# Ends process 1 as kill -9 does at step 7, the first time that it comes there, or has it run out
# of memory.
CRASH = """import os, pathlib, signal
once = pathlib.Path("crashed")
if os.environ.get("RANK") == "1" and "CRASH" in os.environ:
    import torch
    from tasks.training.state import TrainingState
    accumulate_gradients = TrainingState.accumulate_gradients
    def crashing(state, batches):
        if state.counters.step == 7 and not once.exists():
            once.touch()
            if os.environ["CRASH"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return None
        return accumulate_gradients(state, batches)
    TrainingState.accumulate_gradients = crashing
"""
NO_RAY = "Ray is not installed: pip install -c constraints.txt 'millrace[ray]'"


class Workspace:
    """A folder in which stages of the recipe `tiny` run."""

    def __init__(self, root: Path, modality: str, **options: Any) -> None:
        self.root = root
        self.paths = StagePaths(root / "data" / "tiny")
        if modality == "text":
            tiny.base(root / "base")
        # An odd number of rows, so that the parts of processes are unequal.
        tiny.split(modality, self.paths.split.path, 61)
        self.write_recipe(tiny.recipe(modality, root, **options))
        files.write_json(self.paths.tuned.best, {})
        (root / "site").mkdir()
        (root / "site" / "sitecustomize.py").write_text(CRASH)

    def write_recipe(self, recipe: Recipe) -> None:
        ResolvedRecipe(recipe=recipe).write(self.paths.recipe)

    def change_recipe(self, change: dict[str, Any]) -> None:
        """Write the recipe anew with some values changed."""
        recipe = ResolvedRecipe.read(self.paths.recipe).recipe
        values = recipe.model_dump()
        for section, changes in change.items():
            values[section] = {**(values[section] or {}), **changes}
        self.write_recipe(Recipe.model_validate(values))

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        """The environment of this process, with the folder's own status file."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.root / 'site'}",
            "MILLRACE_STATUS": str(self.root / "status"),
            **extra,
        }
        if "CRASH" not in extra:
            environment.pop("CRASH", None)
        return environment

    def run(self, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(extra),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def status(self) -> Any:
        return json.loads((self.root / "status").read_text())

    def losses(self) -> list[float]:
        """The losses of each epoch, on the training and on the validation rows."""
        losses = []
        for line in self.paths.model.history.read_text().splitlines():
            record = json.loads(line)
            losses += [record[name] for name in sorted(record) if "loss" in name]
        return losses

    def weights(self) -> str:
        return hashing.sha256(self.paths.model.weights)


TABULAR_OPTIONS = {
    "dropout": 0.0,
    "gradient_accumulation_steps": 2,
    "class_weights": "balanced",
    "l1": 1e-3,
    "learning_rate": 1e-2,
}


@pytest.mark.parametrize(
    ("modality", "options"),
    [
        ("tabular", TABULAR_OPTIONS),
        ("text", {"label_smoothing": 0.1, "precision": "fp32"}),
        ("text", {"shard": True, "gradient_accumulation_steps": 2, "precision": "fp32"}),
    ],
)
def test_one_process_and_two_have_the_same_losses(
    tmp_path: Path, modality: str, options: dict[str, Any]
) -> None:
    single = Workspace(tmp_path / "single", modality, **options)
    double = Workspace(tmp_path / "double", modality, **options)
    alone = single.run(sys.executable, *STEP)
    assert alone.returncode == 0, alone.stderr
    both = double.run(*TORCHRUN, "2", *STEP)
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("epoch 1/3 done") == 1
    losses = single.losses()
    assert len(losses) == 6
    assert max(losses) - min(losses) > 0.01
    assert losses == pytest.approx(double.losses(), abs=1e-4)


@pytest.mark.parametrize("shard", [False, True])
def test_after_one_process_was_killed_all_go_on_from_the_last_checkpoint(
    tmp_path: Path, shard: bool
) -> None:
    whole = Workspace(tmp_path / "whole", "tabular", shard=shard)
    killed = Workspace(tmp_path / "killed", "tabular", shard=shard)
    done = whole.run(*TORCHRUN, "2", *STEP)
    assert done.returncode == 0, done.stderr
    done = killed.run(*TORCHRUN, "2", "--max-restarts", "1", *STEP, CRASH="kill")
    assert done.returncode == 0, done.stderr
    assert (killed.root / "crashed").exists()
    assert "resumed at step" in done.stderr
    assert killed.weights() == whole.weights()


def test_a_recipe_with_processes_starts_them_and_ends_as_the_one_that_failed(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path, "tabular", processes=2)
    killed = workspace.run(sys.executable, *STEP, CRASH="kill")
    assert killed.returncode == 75, killed.stderr
    message = "process 1 of the 2 that train was killed from outside"
    assert message in workspace.status()["reason"]
    assert not workspace.paths.model.path.exists()
    (tmp_path / "crashed").unlink()
    narrow = workspace.run(sys.executable, *STEP, CRASH="memory")
    assert narrow.returncode == 75, narrow.stderr
    assert workspace.status()["kind"] == "retryable"
    message = "6 rows at once do not fit into memory: from step 7 on a batch is computed in 2 parts"
    assert message in workspace.status()["reason"]
    assert workspace.run(sys.executable, *STEP).returncode == 0
    assert workspace.status()["kind"] == "done"
    assert workspace.losses()
    workspace.change_recipe({"train": {"class_weights": {"yse": 2.0}}})
    wrong = workspace.run(sys.executable, *STEP)
    assert wrong.returncode == 2
    assert workspace.status()["kind"] == "config_error"
    assert workspace.status()["reason"] == (
        "train.class_weights: 'yse' is not a class of the training rows (did you mean yes?); they "
        "are no, yes."
    )


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "tabular", processes=2, epochs=100_000, patience=100_000)
    process = subprocess.Popen(
        [sys.executable, *STEP],
        cwd=tmp_path,
        env=workspace.environment({}),
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("checkpoints/tiny/*/0*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_workers_of_a_ray_cluster_have_the_same_losses_and_end_as_the_one_that_failed(
    tmp_path: Path,
) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    single = Workspace(tmp_path / "single", "tabular", dropout=0.0)
    cluster = Workspace(tmp_path / "ray", "tabular", dropout=0.0, processes=2)
    cluster.change_recipe({"engine": {"kind": "ray"}})
    for workspace in (single, cluster):
        done = workspace.run(sys.executable, *STEP, RAY_USAGE_STATS_ENABLED="0")
        assert done.returncode == 0, done.stderr
    assert single.losses() == pytest.approx(cluster.losses(), abs=1e-4)
    assert not (cluster.root / "checkpoints" / ".ray" / "tiny").exists()
    cluster.change_recipe({"train": {"class_weights": {"yse": 2.0}}})
    wrong = cluster.run(sys.executable, *STEP, RAY_USAGE_STATS_ENABLED="0")
    assert wrong.returncode == 2
    message = "'yse' is not a class of the training rows (did you mean yes?)"
    assert message in cluster.status()["reason"]
