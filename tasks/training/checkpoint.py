"""Checkpoints: whole or absent, verified before use, without pickles.

A checkpoint is a folder `<step>` with state.json and safetensors files. It is written beside under another name, hashed, synced and renamed; the
newest two are kept, so that a broken one leaves the one before it. It says in which folder it was written, whose name stands for data, recipe and code:
put into another one it is refused. All worktrees of a repository share its checkpoints: what was cut off in one is taken up in another.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tasks.core.errors import RetryableError
from tasks.storage import files, hashing
from tasks.training import distributed

MAX_CHECKPOINTS = 2
MAX_TIME_FRACTION = 0.03  # of the training's time that checkpoints may take
ASSUMED_BYTES_PER_SECOND = 200e6  # of a save, until one has been measured
Tensors = dict[str, torch.Tensor]


class CheckpointSchedule:
    """Says when the next checkpoint is due: `seconds` after the last one, or later where saving would take more than SHARE; with 0 after every step."""

    def __init__(self, seconds: float, size: int) -> None:
        self.seconds, self.cost = seconds, size / ASSUMED_BYTES_PER_SECOND
        self.begun = self.last = time.monotonic()
        self.n_saves, self.spent = 0, 0.0

    def is_due(self) -> bool:
        return self.seconds == 0 or time.monotonic() - self.last >= max(
            self.seconds, self.cost / MAX_TIME_FRACTION
        )

    def measure(self, save: Callable[[], None]) -> None:
        started = time.monotonic()
        save()
        self.last = time.monotonic()
        self.cost = self.last - started
        self.spent += self.cost
        self.n_saves += 1

    def told(self) -> str:
        whole = time.monotonic() - self.begun
        return f"{self.n_saves} checkpoints took {self.spent:.1f} s, {self.spent / whole:.1%} of the training"


@contextlib.contextmanager
def lock_run_folder(folder: Path, of: Any) -> Iterator[Path]:
    """Hold the folder in `folder` for the checkpoints of a run that is all that `of` says, and delete those of other runs of this worktree, or of one that is gone.

    Raises Retryable where another process holds it: in another worktree the same is being trained.
    """
    mine, here = folder / hashing.hash_json(of)[:16], str(Path.cwd())
    if distributed.rank() > 0:  # the first process holds it for all
        yield mine
        return
    mine.mkdir(parents=True, exist_ok=True)
    owner = mine / "worktree"
    with (folder.parent / f".{folder.name}.lock").open("a") as lock:
        try:
            fcntl.lockf(
                lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(mine.name[:15], 16)
            )  # a byte for each run: others of the recipe may go on beside it
        except OSError:
            raise RetryableError(
                f"the same data and recipe are being trained already, by another worktree's run in {mine}: wait until it has ended."
            ) from None
        files.write_text(owner, here)
        for other in sorted(path for path in folder.glob("*") if path.is_dir() and path != mine):
            of_whom = (other / "worktree").read_text() if (other / "worktree").is_file() else here
            if of_whom == here or not Path(of_whom).is_dir():
                print(
                    f"{other} is deleted: its checkpoints are of another recipe, other data, or another version or machine",
                    flush=True,
                )
                shutil.rmtree(other)
        yield mine


def write_checkpoint(
    folder: Path, step: int, state: dict[str, Any], groups: dict[str, Tensors]
) -> Path:
    """Write the checkpoint of `step`; `groups` maps a file's name to its tensors."""
    target = folder / f"{step:09d}"
    temporary = folder / f".{step:09d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    hashes = {}
    for name, tensors in groups.items():
        path = temporary / f"{name}.safetensors"
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path
        )
        hashes[name] = hashing.sha256(path)
        sync_to_disk(path)
    (temporary / "state.json").write_text(
        json.dumps(
            {"of": folder.name, "step": step, "state": state, "sha256": hashes}, sort_keys=True
        )
    )
    sync_to_disk(temporary / "state.json")
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    sync_to_disk(folder)
    for old in list_checkpoints(folder)[:-MAX_CHECKPOINTS]:
        shutil.rmtree(old)
    return target


def load_latest(folder: Path) -> tuple[dict[str, Any], dict[str, Tensors]] | None:
    """The newest checkpoint whose bytes verify, as (state, groups), or None."""
    for path in reversed(list_checkpoints(folder)):
        try:
            about = json.loads((path / "state.json").read_text())
            if about["of"] != folder.name:
                raise ValueError(
                    f"it belongs to {about['of']}, which is another recipe, data or version"
                )
            for name, digest in about["sha256"].items():
                if hashing.sha256(path / f"{name}.safetensors") != digest:
                    raise ValueError(f"{name}.safetensors does not match its hash")
            return about["state"], {
                name: load_file(path / f"{name}.safetensors") for name in about["sha256"]
            }
        except (OSError, ValueError, KeyError) as error:
            print(f"checkpoint {path} is not used ({error}); trying the one before it", flush=True)
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    return (
        sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []
    )


def sync_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
