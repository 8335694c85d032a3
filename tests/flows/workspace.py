"""A copy of the repository with small recipes, in which real DVC, Prefect and S3 run."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows import embedded_s3, stage_process
from tasks.contracts.run_record import RunRecord
from tasks.storage import hashing
from tasks.storage.layout import StagePaths
from tests.conftest import ROOT

BIN = Path(sys.executable).parent
OUR_PREFIXES = ("MILLRACE_", "PREFECT_", "DVC_", "AWS_", "PYTHONDONTWRITEBYTECODE")
STAGES = [
    "resolve",
    "ingest",
    "check_raw",
    "clean",
    "label",
    "split",
    "check_ready",
    "pretrain",
    "tune",
    "train",
    "evaluate",
    "gate",
]
DIGITS = """name: digits
modality: image
ingest: {kind: package, name: sklearn.digits}
columns: {id: id}
train: {epochs: 2, checkpoint_seconds: 0.2}
gate:
  - {rule: floor, metric: accuracy, bound: 0.3}
  - {rule: champion, metric: accuracy, margin: 0.2}
"""
TINY = """name: tiny
modality: text
ingest: {kind: files, path: data/sources/tiny.csv}
columns: {id: id}
split: {val: 0.2, test: 0.3}
gate: [{rule: floor, metric: accuracy, bound: 0.5}]
"""
TINY_TEXTS = [
    "the invoice has a mistake",
    "my password is lost",
    "please send the bill",
    "a login fails",
]
TINY_ROWS = 40
# A stage `label` that notes each attempt by a letter in the file `attempts`, then runs a statement.
INTERRUPTED_LABEL = """from tasks import label
from tasks.core import stage
from tasks.core.errors import RetryableError, StageError


def interrupted(recipe):
    with open("attempts", "a") as file:
        file.write("x")
        attempts = file.tell()
    {statement}
    label.label(recipe)


stage.main(interrupted)
"""


@dataclass(frozen=True)
class Workspace:
    """A copy of the repository with recipes of its own."""

    root: Path

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(OUR_PREFIXES)
        }
        return {
            **inherited,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "site"),
            "OMP_NUM_THREADS": "1",
            **extra,
        }

    def run(self, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def retrain(self, recipe: str = "digits", **extra: str) -> "subprocess.CompletedProcess[str]":
        """Run the flow."""
        return self.run("millrace", "run", recipe, **extra)

    def start(self, *command: str, **extra: str) -> "subprocess.Popen[bytes]":
        with (self.root / "output.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=self.environment(extra), stdout=log, stderr=log
            )

    def copy(self, to: Path) -> "Workspace":
        return Workspace(Path(shutil.copytree(self.root, to / "workspace")))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text that stands once in a file."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1
        (self.root / path).write_text(text.replace(old, new))

    def append(self, path: str, text: str) -> None:
        with (self.root / path).open("a") as file:
            file.write(text)

    def repro(self, target: str) -> list[str]:
        """Return the stages that `dvc repro` ran."""
        done = self.run("dvc", "repro", target)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("Running stage")]
        return [line.split("'")[1].partition("@")[0] for line in lines]

    def lock(self) -> str:
        """Return DVC's lock file without the hashes of outputs that contain times."""
        text = (self.root / "dvc.lock").read_text()
        return re.sub(r"(/evaluation/(?:cost.json|report.html)\n).*\n.*\n.*\n", r"\1", text)

    def record(self) -> RunRecord:
        """Return the newest run record."""
        records = (self.root / "runs").iterdir()
        newest = max(records, key=lambda path: path.stat().st_mtime_ns)
        return RunRecord.read(newest)

    def stages_run(self) -> list[str]:
        """Return the stages that the newest flow did not find up to date."""
        entries = [entry for entry in self.record().stages if entry.state != "cached"]
        return [entry.stage.partition("@")[0] for entry in entries]

    def status(self) -> Any:
        return json.loads(self.run("millrace", "status", "digits", "--json").stdout)

    def paths(self, recipe: str = "digits") -> StagePaths:
        return StagePaths(self.root / "data" / recipe)

    def model(self) -> dict[str, str]:
        """Return the hashes of the model's files."""
        return hashing.hash_folder(self.paths().model.path)

    def objects(self, prefix: str = "digits/") -> list[str]:
        """Return the names of all that the store holds for a recipe."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            for name in os.environ:
                if name.startswith(OUR_PREFIXES):
                    patch.delenv(name)
            with embedded_s3.open_store() as store:
                return list(store.list_names(prefix))

    def processes(self) -> list[str]:
        """Return every process that works in this workspace, or was started by a run of it."""
        commands = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                marker = process.environ().get(stage_process.WORKSPACE_VARIABLE)
                is_here = str(self.root) in (process.cwd(), marker)
                if is_here and process.pid != os.getpid():
                    commands.append(" ".join(process.cmdline())[:100])
        return commands

    def interrupt_label(self, statement: str) -> None:
        """Make the stage `label` run a statement first, with two quick retries."""
        script = INTERRUPTED_LABEL.format(statement=statement)
        (self.root / "interrupted_label.py").write_text(script)
        path = self.root / "dvc.yaml"
        pipeline = yaml.safe_load(path.read_text())
        stage = pipeline["stages"]["label"]
        stage["cmd"] = "python interrupted_label.py ${item.recipe}"
        stage["meta"] |= {"retries": 2, "backoff": [0.1, 0.1]}
        path.write_text(yaml.safe_dump(pipeline))


def create_workspace(root: Path) -> Workspace:
    """Create a workspace in which nothing has run."""
    ignored = shutil.ignore_patterns("tmp", "cache", "config.local")
    for name in ("tasks", "flows", ".dvc"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("dvc.yaml", "constraints.txt", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    for name in ("recipes", "data/sources", "data/digits", "data/tiny"):
        (root / name).mkdir(parents=True)
    (root / "params.yaml").write_text("recipes: [digits, tiny]\n")
    for name, text in (("digits", DIGITS), ("tiny", TINY)):
        (root / "data" / name / "erase.csv").write_text("id\n")
        (root / "recipes" / f"{name}.yaml").write_text(text)
    (root / "data" / "sources" / "tiny.csv").write_text("\n".join(tiny_lines()) + "\n")
    workspace = Workspace(root)
    assert workspace.run("dvc", "config", "core.no_scm", "true").returncode == 0
    return workspace


def tiny_lines() -> Iterator[str]:
    """Yield the lines of the table of texts."""
    yield "id,text,label"
    for number in range(TINY_ROWS):
        text = TINY_TEXTS[number % len(TINY_TEXTS)]
        label = "account" if number % 2 else "money"
        yield f"r{number:02d},{text} number {number * 7919},{label}"


def wait_for(probe: Callable[[], Any], seconds: float = 300) -> Any:
    """Wait until the probe gives something true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = probe()
        if value:
            return value
        time.sleep(0.02)
    raise TimeoutError


def find_stage_process(flow: "subprocess.Popen[bytes]", stage: str) -> psutil.Process | None:
    """Return the process of a stage, which is two below the flow's; None if it does not run."""
    assert flow.poll() is None
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(flow.pid).children(recursive=True):
            if process.cmdline()[-2:] == [f"tasks.{stage}", "digits"]:
                return process
    return None


def has_checkpoint(workspace: Workspace) -> bool:
    """Return whether a training has written a checkpoint."""
    return bool(list(workspace.root.glob("checkpoints/digits/*/0*")))


def kill_flow(
    workspace: Workspace, stage: str, *, hold: bool = False, **extra: str
) -> psutil.Process:
    """Kill the flow's process alone while a stage runs; return the stage's, which is left behind.

    Args:
        workspace: Where it runs.
        stage: The stage; `train` is awaited until it has written a checkpoint.
        hold: Whether to suspend the stage first, so that it does not end by itself.
        extra: Variables of the flow's environment.
    """
    flow = workspace.start("millrace", "run", "digits", **extra)

    def find() -> psutil.Process | None:
        process = find_stage_process(flow, stage)
        return process if stage != "train" or has_checkpoint(workspace) else None

    try:
        process: psutil.Process = wait_for(find)
        if hold:
            process.suspend()
    finally:
        flow.send_signal(signal.SIGKILL)
        flow.wait()
    assert stage_process.is_alive(process)
    return process
