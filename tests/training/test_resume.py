"""Exact resume: a run that is killed with -9, wherever, ends with the bytes of one that was not."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasks import train
from tasks.core.errors import RetryableError
from tasks.modalities import onnx
from tasks.storage import hashing, layout
from tasks.storage.layout import StagePaths
from tasks.training import checkpoint
from tasks.training.checkpoint import CheckpointSchedule
from tests import tiny

# Where a run is killed: the function at whose n-th call it dies, and whether after it.
PLACES: dict[str, tuple[str, bool]] = {
    "before forward": ("tasks.training.state.TrainingState.update", False),
    "between forward and backward": ("torch.Tensor.backward", False),
    "between backward and optimizer": ("torch.nn.utils.clip_grad_norm_", False),
    "after optimizer": ("torch.optim.AdamW.step", True),
    "while a checkpoint is written": ("tasks.training.checkpoint.sync_to_disk", False),
    "after a checkpoint": ("tasks.training.state.TrainingState.save", True),
    "while the epoch is measured": ("tasks.training.state.TrainingState.scores", False),
}
# What takes seconds to import: the server from which each run's process is forked has it, and nothing else.
PRELOADED = [
    "tests.training.test_resume",
    "torch._dynamo",
    "sklearn.linear_model",
    "transformers.models.bert.modeling_bert",
    "transformers.models.auto.modeling_auto",
    "peft",
]


@dataclass(frozen=True)
class Job:
    """One training run in a process of its own."""

    modality: str
    folder: Path  # with base/ and split/
    work: Path  # where checkpoints/ and model/ go
    options: dict[str, Any]

    def __call__(self, place: str | None = None, call: int = 0) -> int | None:
        """Run to the end, or to the kill; returns the exit code."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        process = context.Process(target=self.work_through, args=(place, call))
        process.start()
        process.join(120)
        return process.exitcode

    def work_through(self, place: str | None, call: int) -> None:
        import torch

        torch.set_num_threads(1)
        onnx.export_network = lambda *arguments: None  # type: ignore[assignment]  # equal weights give an equal export, which takes longest of all
        if place:
            die(*PLACES[place], call)
        os.makedirs(self.work, exist_ok=True)
        os.chdir(self.work)
        shutil.copytree(self.folder / "split", "split", dirs_exist_ok=True)
        train.run(
            tiny.recipe(self.modality, self.folder, **self.options),
            StagePaths(Path()),
            layout.shared_path("checkpoints"),
        )

    def model(self) -> dict[str, str]:
        return hashing.hash_folder(self.work / "model")


def die(name: str, after: bool, call: int) -> None:
    """Kill this process, as kill -9 does, at the n-th call of a function."""
    import pkgutil

    owner = pkgutil.resolve_name(name.rpartition(".")[0])
    original: Callable[..., Any] = getattr(owner, name.rpartition(".")[2])
    calls = [0]

    def dying(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name.rpartition(".")[2], dying)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Job, dict[str, str]]]:
    """A modality's job, and what it writes if nobody disturbs it."""
    known: dict[str, tuple[Job, dict[str, str]]] = {}

    def make(modality: str, **options: Any) -> tuple[Job, dict[str, str]]:
        key = f"{modality} {options}"
        if key not in known:
            folder = tmp_path_factory.mktemp(modality)
            tiny.split(modality, folder / "split")
            if modality == "text":
                tiny.base(folder / "base")
            if modality == "causal_lm":
                tiny.decoder(folder / "base")
            job = Job(modality, folder, folder / "whole", options)
            assert job() == 0
            known[key] = job, job.model()
        return known[key]

    return make


KILLS = [
    (modality, place)
    for modality in tiny.TRAIN
    for place in random.Random(modality).sample(sorted(PLACES), 3)
]


@pytest.mark.parametrize(("modality", "place"), KILLS)
def test_a_killed_run_ends_with_the_same_bytes(
    made: Any, tmp_path: Path, modality: str, place: str
) -> None:
    job, whole = made(modality)
    killed = Job(modality, job.folder, tmp_path, job.options)
    call = random.randint(
        *(1, 3) if "epoch" in place else (6, 9) if "written" in place else (2, 9)
    )  # so that over many runs of the tests every step is tried
    assert killed(place, call) == -signal.SIGKILL, f"call {call}"
    assert list(tmp_path.glob("checkpoints/*/0*")), f"call {call}"
    assert killed() == 0
    assert killed.model() == whole, f"call {call}"
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.parametrize(
    ("modality", "options"),
    [
        (
            "tabular",
            {
                "optimizer": "sgd",
                "learning_rate": 0.05,
                "schedule": "plateau",
                "gradient_accumulation_steps": 2,
                "class_weights": "balanced",
                "ema_decay": 0.9,
            },
        ),
        (
            "text",
            {
                "freeze": 1,
                "layerwise_lr_decay": 0.7,
                "schedule": "cosine",
                "gradient_accumulation_steps": 2,
                "activation_checkpointing": True,
                "precision": "bf16",
                "ema_decay": 0.9,
            },
        ),
    ],
)
def test_a_run_killed_twice_ends_with_the_same_bytes_whatever_its_options(
    made: Any, tmp_path: Path, modality: str, options: dict[str, Any]
) -> None:
    job, whole = made(modality, **options)
    killed = Job(modality, job.folder, tmp_path, options)
    assert killed("before forward", 4) == -signal.SIGKILL
    assert killed("before forward", 2) == -signal.SIGKILL
    assert killed() == 0
    assert killed.model() == whole


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_a_run_goes_on_in_another_worktree_of_its_repository(made: Any, tmp_path: Path) -> None:
    job, whole = made("tabular")
    here, first, second = (tmp_path / name for name in ("repository", "first", "second"))
    here.mkdir()
    git(here, "init")
    git(here, "commit", "--allow-empty", "-m", "nothing")
    for worktree in (first, second):
        git(here, "worktree", "add", "--detach", str(worktree))
    assert Job("tabular", job.folder, first, {})("before forward", 6) == -signal.SIGKILL
    [newest] = [checkpoint.list_checkpoints(path)[-1] for path in (here / "checkpoints").iterdir()]
    assert not (first / "checkpoints").exists()
    shutil.copytree(job.folder / "split", second / "elsewhere" / "split")
    shutil.rmtree(first)
    other = Job("tabular", second / "elsewhere", second, {})
    assert other("before forward", 1) == -signal.SIGKILL
    assert (
        other("before forward", 12 - int(newest.name) + 1) == 0
    )  # there were that many steps left, no more
    assert other.model() == whole


def hold(folder: Path, of: Any, holds: Any, leave: Any) -> None:
    with checkpoint.lock_run_folder(folder, of):
        holds.set()
        leave.wait(60)


def test_what_another_process_trains_is_not_trained_beside_it_and_what_another_worktree_needs_is_kept(
    here: Path,
) -> None:
    context = multiprocessing.get_context("forkserver")
    holds, leave = context.Event(), context.Event()
    process = context.Process(
        target=hold, args=(here / "checkpoints" / "tiny", ["a"], holds, leave)
    )
    process.start()
    assert holds.wait(60)
    own = partial(checkpoint.lock_run_folder, here / "checkpoints" / "tiny")
    with (
        pytest.raises(
            RetryableError,
            match="the same data and recipe are being trained already, by another worktree's run in .*: wait until it has ended",
        ),
        own(["a"]),
    ):
        pass
    [mine] = (here / "checkpoints" / "tiny").iterdir()
    (mine / "worktree").write_text(str(here / "another"))
    (here / "another").mkdir()
    with own(["b"]) as other:
        assert mine.is_dir()
        (here / "another").rmdir()
    with own(["b"]):
        assert not mine.is_dir()
    leave.set()
    process.join(60)
    with own(["a"]) as again:
        assert again == mine
        assert not other.is_dir()


def test_a_broken_newest_checkpoint_is_refused_and_the_one_before_it_used(
    made: Any, tmp_path: Path
) -> None:
    job, whole = made("tabular")
    killed = Job("tabular", job.folder, tmp_path, {})
    assert killed("before forward", 6) == -signal.SIGKILL
    older, newest = sorted(tmp_path.glob("checkpoints/*/0*"))
    assert (older.name, newest.name) == ("000000004", "000000005")
    with (newest / "weights.safetensors").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"x")
    state = checkpoint.load_latest(newest.parent)
    assert state and state[0]["step"] == 4
    assert killed() == 0
    assert killed.model() == whole


@pytest.mark.parametrize("change", [{"learning_rate": 1e-2}, {"seed": 1}])
def test_a_checkpoint_of_another_recipe_is_not_used(
    made: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    job, _ = made("tabular")
    killed, other, clean = (
        Job("tabular", job.folder, tmp_path / name, options)
        for name, options in (("a", {}), ("a", change), ("b", change))
    )
    assert killed("before forward", 6) == -signal.SIGKILL
    assert other() == 0
    assert clean() == 0
    assert other.model() == clean.model()


def test_a_checkpoint_that_was_put_into_another_recipes_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    checkpoint.write_checkpoint(
        tmp_path / "mine", 3, {"step": 3}, {"weights": {"w": torch.zeros(2)}}
    )
    shutil.copytree(tmp_path / "mine", tmp_path / "other")
    assert checkpoint.load_latest(tmp_path / "mine") is not None
    assert checkpoint.load_latest(tmp_path / "other") is None
    assert "it belongs to mine, which is another recipe, data or version" in capsys.readouterr().out


def test_checkpoints_wait_until_they_take_no_more_than_their_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("tasks.training.checkpoint.time.monotonic", lambda: now[0])
    clock = CheckpointSchedule(seconds=1.0, size=0)

    def save() -> None:
        now[0] += 2.0

    for _ in range(10_000):
        now[0] += 0.1
        if clock.is_due():
            clock.measure(save)
    assert clock.spent / now[0] < checkpoint.MAX_TIME_FRACTION + 1e-9
    assert clock.n_saves == 15
    assert clock.told() == "15 checkpoints took 30.0 s, 2.9 % of the training".replace(" %", "%")
