"""Checkpoints: whole or absent, verified before use, without pickles.

A checkpoint is a folder `<step>` with state.json and safetensors files. It is written beside its
place under another name, hashed, synced and renamed. The newest two are kept, so a broken one
leaves the one before it. state.json names the run folder that it was written in, and that name
stands for data, recipe and code: a checkpoint is refused in any other folder. All worktrees of a
repository share its checkpoints, so a run that was cut off in one is resumed in another.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tasks.core.errors import RetryableError
from tasks.storage import files, hashing, locks
from tasks.training import distributed

MAX_CHECKPOINTS = 2
MAX_TIME_FRACTION = 0.03  # of the training time that checkpoints may take
ASSUMED_BYTES_PER_SECOND = 200e6  # of a save, until one was measured
WORKTREE_FILE = "worktree"  # in a run folder: the path of the worktree that made it
LOCK_FILE = "lock"  # in a run folder: held while the run trains
STATE_FILE = "state.json"
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: values for JSON, and groups of tensors, one file for each."""

    state: dict[str, Any]
    groups: dict[str, Tensors]


class CheckpointSchedule:
    """Decides when the next checkpoint is due.

    It is due `seconds` after the last one, or later if saving would take more than
    MAX_TIME_FRACTION of the time; with 0 it is due after every step.
    """

    def __init__(self, seconds: float, n_bytes: int) -> None:
        """Start the clock.

        Args:
            seconds: The shortest time between two checkpoints.
            n_bytes: The size of a checkpoint, as far as it is known.
        """
        self.seconds = seconds
        self.start_time = time.monotonic()
        self.last_save_time = self.start_time
        self.save_seconds = n_bytes / ASSUMED_BYTES_PER_SECOND
        self.total_save_seconds = 0.0
        self.n_saves = 0

    def is_due(self) -> bool:
        """Return whether it is time for a checkpoint."""
        if self.seconds == 0:
            return True
        pause = max(self.seconds, self.save_seconds / MAX_TIME_FRACTION)
        return time.monotonic() - self.last_save_time >= pause

    def measure(self, save: Callable[[], None]) -> None:
        """Save, and note how long it took."""
        start_time = time.monotonic()
        save()
        self.last_save_time = time.monotonic()
        self.save_seconds = self.last_save_time - start_time
        self.total_save_seconds += self.save_seconds
        self.n_saves += 1

    def describe(self) -> str:
        """Describe what the checkpoints cost."""
        fraction = self.total_save_seconds / (time.monotonic() - self.start_time)
        return (
            f"{self.n_saves} checkpoints took {self.total_save_seconds:.1f} s, "
            f"{fraction:.1%} of the training"
        )


@contextlib.contextmanager
def lock_run_folder(folder: Path, fingerprint: Any) -> Iterator[Path]:
    """Hold the folder for the checkpoints of one run, and delete those of outdated runs.

    Args:
        folder: The checkpoints of a recipe.
        fingerprint: All that the run's result depends on, as JSON values and sections.

    Yields:
        The run's folder; its name is a hash of the fingerprint.

    Raises:
        RetryableError: Another process holds it, because another worktree trains the same.
    """
    run_folder = folder / hashing.hash_json(fingerprint)[:16]
    if distributed.rank() > 0:  # the first process holds it for all
        yield run_folder
        return
    run_folder.mkdir(parents=True, exist_ok=True)
    with locks.file_lock(run_folder / LOCK_FILE, wait=False) as is_held:
        if not is_held:
            raise RetryableError(
                "the same data and recipe are being trained already, by another worktree's run "
                f"in {run_folder}: wait until it has ended."
            )
        files.write_text(run_folder / WORKTREE_FILE, str(Path.cwd()))
        delete_outdated_runs(folder, run_folder)
        yield run_folder


def delete_outdated_runs(folder: Path, current: Path) -> None:
    """Delete the other runs of this worktree, and those of worktrees that are gone."""
    here = str(Path.cwd())
    for other in sorted(folder.iterdir()):
        if other == current or not other.is_dir():
            continue
        note = other / WORKTREE_FILE
        worktree = note.read_text() if note.is_file() else here
        if worktree == here or not Path(worktree).is_dir():
            print(
                f"{other} is deleted: its checkpoints are of another recipe, other data, or "
                "another version or machine",
                flush=True,
            )
            shutil.rmtree(other)


def write_checkpoint(folder: Path, step: int, content: Checkpoint) -> Path:
    """Write the checkpoint of a step, and delete those that are no longer needed."""
    target = folder / f"{step:09d}"
    temporary = folder / f".{step:09d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    hashes = {}
    for name, tensors in content.groups.items():
        path = temporary / f"{name}.safetensors"
        save_file(to_cpu(tensors), path)
        hashes[name] = hashing.sha256(path)
        sync_to_disk(path)
    state = {"run_folder": folder.name, "step": step, "state": content.state, "sha256": hashes}
    (temporary / STATE_FILE).write_text(json.dumps(state, sort_keys=True))
    sync_to_disk(temporary / STATE_FILE)
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    sync_to_disk(folder)
    for old in list_checkpoints(folder)[:-MAX_CHECKPOINTS]:
        shutil.rmtree(old)
    return target


def to_cpu(tensors: Tensors) -> Tensors:
    """Return the tensors as safetensors writes them: in the CPU's memory, and contiguous."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def load_latest(folder: Path) -> Checkpoint | None:
    """Load the newest checkpoint of a run whose bytes verify, if there is one."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return load_checkpoint(path)
        except (OSError, ValueError, KeyError) as error:
            print(f"checkpoint {path} is not used ({error}); trying the one before it", flush=True)
    return None


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint; raise ValueError if it is of another run, or its bytes changed."""
    content = json.loads((path / STATE_FILE).read_text())
    if content["run_folder"] != path.parent.name:
        raise ValueError(
            f"it belongs to {content['run_folder']}, which is another recipe, data or version"
        )
    for name, expected in content["sha256"].items():
        if hashing.sha256(path / f"{name}.safetensors") != expected:
            raise ValueError(f"{name}.safetensors does not match its hash")
    groups = {name: load_file(path / f"{name}.safetensors") for name in content["sha256"]}
    return Checkpoint(content["state"], groups)


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def sync_to_disk(path: Path) -> None:
    """Have the operating system write a file or folder to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
