"""Several processes, as torchrun and `train.processes` start them: the same losses, and going on after one was killed."""

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

from tasks.recipe.resolved import ResolvedRecipe
from tasks.storage import files, hashing
from tests import tiny
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
STEP = ["-m", "tasks.train", "tiny"]
# Ends process 1 as kill -9 does at the given step, the first time that it comes there; or has it run out of memory.
CRASH = """import os, pathlib, signal
once = pathlib.Path("crashed")
if os.environ.get("RANK") == "1" and "CRASH" in os.environ:
    import torch
    from tasks import loop
    gradients = loop.Run.gradients
    def crashing(run, batches):
        if run.step == 7 and not once.exists():
            once.touch()
            if os.environ["CRASH"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return None
        return gradients(run, batches)
    loop.Run.gradients = crashing
"""


class Workspace:
    def __init__(self, root: Path, modality: str, **options: Any) -> None:
        self.root = root
        if modality == "text":
            tiny.base(root / "base")
        tiny.split(
            modality, root / "data" / "tiny" / "split", 61
        )  # an odd number, so that shares are unequal
        recipe = tiny.recipe(modality, root, **options)
        ResolvedRecipe(recipe=recipe).write(root / "data" / "tiny" / "recipe.json")
        files.write_json(root / "data" / "tiny" / "tuned" / "best.json", {})
        (root / "site").mkdir()
        (root / "site" / "sitecustomize.py").write_text(CRASH)

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in ("MILLRACE_STATUS", "CRASH")
        }
        return {
            **kept,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.root / 'site'}",
            "MILLRACE_STATUS": str(self.root / "status"),
            **extra,
        }

    def run(self, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(extra),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def losses(self) -> list[float]:
        lines = (self.root / "data" / "tiny" / "model" / "history.jsonl").read_text().splitlines()
        return [
            value
            for line in lines
            for name, value in sorted(json.loads(line).items())
            if "loss" in name
        ]

    def weights(self) -> str:
        return hashing.sha256(self.root / "data" / "tiny" / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("modality", "options"),
    [
        (
            "tabular",
            {
                "dropout": 0.0,
                "gradient_accumulation_steps": 2,
                "class_weights": "balanced",
                "l1": 1e-3,
                "learning_rate": 1e-2,
            },
        ),
        ("text", {"label_smoothing": 0.1, "precision": "fp32"}),
        ("text", {"shard": True, "gradient_accumulation_steps": 2, "precision": "fp32"}),
    ],
)
def test_one_process_and_two_have_the_same_losses(
    tmp_path: Path, modality: str, options: dict[str, Any]
) -> None:
    one, two = (
        Workspace(tmp_path / "one", modality, **options),
        Workspace(tmp_path / "two", modality, **options),
    )
    alone = one.run(sys.executable, *STEP)
    assert alone.returncode == 0, alone.stderr
    both = two.run(*TORCHRUN, "2", *STEP)
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("epoch 1/3 done") == 1
    assert len(one.losses()) == 6
    assert max(one.losses()) - min(one.losses()) > 0.01
    assert one.losses() == pytest.approx(two.losses(), abs=1e-4)


@pytest.mark.parametrize("shard", [False, True])
def test_after_one_process_was_killed_all_go_on_from_the_last_checkpoint(
    tmp_path: Path, shard: bool
) -> None:
    whole, killed = (
        Workspace(tmp_path / "whole", "tabular", shard=shard),
        Workspace(tmp_path / "killed", "tabular", shard=shard),
    )
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
    here = Workspace(tmp_path, "tabular", processes=2)
    killed = here.run(sys.executable, *STEP, CRASH="kill")
    assert killed.returncode == 75, killed.stderr
    assert (
        "process 1 of the 2 that train was killed from outside"
        in json.loads((tmp_path / "status").read_text())["reason"]
    )
    assert not (tmp_path / "data" / "tiny" / "model").exists()
    (tmp_path / "crashed").unlink()
    narrow = here.run(sys.executable, *STEP, CRASH="memory")
    assert narrow.returncode == 75, narrow.stderr
    told = json.loads((tmp_path / "status").read_text())
    assert told["kind"] == "retryable"
    assert (
        "6 rows at once do not fit into memory: from step 7 on a batch is computed in 2 parts"
        in told["reason"]
    )
    assert here.run(sys.executable, *STEP).returncode == 0
    assert json.loads((tmp_path / "status").read_text())["kind"] == "done"
    assert here.losses()
    bad = files.read_json(tmp_path / "data" / "tiny" / "recipe.json")
    files.write_json(
        tmp_path / "data" / "tiny" / "recipe.json",
        {**bad, "train": {**bad["train"], "class_weights": {"yse": 2.0}}},
    )
    mistaken = here.run(sys.executable, *STEP)
    assert mistaken.returncode == 2
    told = json.loads((tmp_path / "status").read_text())
    assert told["kind"] == "config_error"
    assert (
        told["reason"]
        == "train.class_weights: 'yse' is not a class of the training rows (did you mean yes?); they are no, yes."
    )


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    here = Workspace(tmp_path, "tabular", processes=2, epochs=100_000, patience=100_000)
    process = subprocess.Popen(
        [sys.executable, *STEP], cwd=tmp_path, env=here.environment({}), stderr=subprocess.DEVNULL
    )
    workers: list[psutil.Process] = []
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
    pytest.importorskip(
        "ray", reason="Ray is not installed: pip install -c constraints.txt 'millrace[ray]'"
    )
    one, ray = (
        Workspace(tmp_path / "one", "tabular", dropout=0.0),
        Workspace(tmp_path / "ray", "tabular", dropout=0.0, processes=2),
    )
    about = files.read_json(ray.root / "data" / "tiny" / "recipe.json")
    files.write_json(
        ray.root / "data" / "tiny" / "recipe.json", {**about, "engine": {"kind": "ray"}}
    )
    alone, both = (
        here.run(sys.executable, *STEP, RAY_USAGE_STATS_ENABLED="0") for here in (one, ray)
    )
    assert (alone.returncode, both.returncode) == (0, 0), both.stderr
    assert one.losses() == pytest.approx(ray.losses(), abs=1e-4)
    assert not (ray.root / "checkpoints" / ".ray" / "tiny").exists()
    wrong = {
        **about,
        "engine": {"kind": "ray"},
        "train": {**about["train"], "class_weights": {"yse": 2.0}},
    }
    files.write_json(ray.root / "data" / "tiny" / "recipe.json", wrong)
    assert ray.run(sys.executable, *STEP, RAY_USAGE_STATS_ENABLED="0").returncode == 2
    assert (
        "'yse' is not a class of the training rows (did you mean yes?)"
        in json.loads((ray.root / "status").read_text())["reason"]
    )
