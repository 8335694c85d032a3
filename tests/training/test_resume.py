"""Exact resume: a run that is killed with -9, anywhere, ends with the bytes of a whole one."""

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from tasks import train
from tasks.core.errors import RetryableError
from tasks.modalities import onnx
from tasks.storage import hashing, layout
from tasks.storage.layout import StagePaths
from tasks.training import checkpoint
from tasks.training.checkpoint import Checkpoint, CheckpointSchedule
from tests import tiny

# Where a run is killed: the function at whose n-th call it dies, and whether after it.
PLACES: dict[str, tuple[str, bool]] = {
    "before forward": ("tasks.training.state.TrainingState.update", False),
    "between forward and backward": ("torch.Tensor.backward", False),
    "between backward and optimizer": ("torch.nn.utils.clip_grad_norm_", False),
    "after optimizer": ("torch.optim.AdamW.step", True),
    "while a checkpoint is written": ("tasks.training.checkpoint.sync_to_disk", False),
    "after a checkpoint": ("tasks.training.state.TrainingState.save", True),
    "while the epoch is measured": ("tasks.training.state.TrainingState.predict_examples", False),
}
# What takes seconds to import. The server that each run's process is forked from imports it once.
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
        # Equal weights give an equal export, which takes longest of all.
        onnx.export_network = lambda *arguments: None  # type: ignore[assignment]
        if place:
            die(*PLACES[place], call)
        self.work.mkdir(parents=True, exist_ok=True)
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

    owner_name, _, attribute = name.rpartition(".")
    owner = pkgutil.resolve_name(owner_name)
    original: Callable[..., Any] = getattr(owner, attribute)
    n_calls = 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if n_calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, dying)


Trained = tuple[Job, dict[str, str]]  # a job that ran undisturbed, and the hashes of its model


@pytest.fixture(scope="module")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Run a modality's job undisturbed, once for each set of options."""
    done: dict[str, Trained] = {}

    def run(modality: str, **options: Any) -> Trained:
        key = f"{modality} {options}"
        if key not in done:
            folder = tmp_path_factory.mktemp(modality)
            tiny.split(modality, folder / "split")
            if modality == "text":
                tiny.base(folder / "base")
            if modality == "causal_lm":
                tiny.decoder(folder / "base")
            job = Job(modality, folder, folder / "whole", options)
            assert job() == 0
            done[key] = (job, job.model())
        return done[key]

    return run


def draw_kills() -> list[tuple[str, str]]:
    """Three places for each modality."""
    kills: list[tuple[str, str]] = []
    for modality in tiny.TRAIN:
        places = random.Random(modality).sample(sorted(PLACES), 3)
        kills.extend((modality, place) for place in places)
    return kills


def draw_call(place: str) -> int:
    """The call at which to kill, so that over many runs of the tests every step is tried."""
    if "epoch" in place:
        return random.randint(1, 3)
    if "written" in place:
        return random.randint(6, 9)
    return random.randint(2, 9)


@pytest.mark.parametrize(("modality", "place"), draw_kills())
def test_a_killed_run_ends_with_the_same_bytes(
    train_once: Any, tmp_path: Path, modality: str, place: str
) -> None:
    job, whole = train_once(modality)
    killed = Job(modality, job.folder, tmp_path, job.options)
    call = draw_call(place)
    assert killed(place, call) == -signal.SIGKILL, f"call {call}"
    assert list(tmp_path.glob("checkpoints/*/0*")), f"call {call}"
    assert killed() == 0
    assert killed.model() == whole, f"call {call}"
    assert not list(tmp_path.glob("checkpoints/*"))


TABULAR_OPTIONS = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "schedule": "plateau",
    "gradient_accumulation_steps": 2,
    "class_weights": "balanced",
    "ema_decay": 0.9,
}
TEXT_OPTIONS = {
    "freeze": 1,
    "layerwise_lr_decay": 0.7,
    "schedule": "cosine",
    "gradient_accumulation_steps": 2,
    "activation_checkpointing": True,
    "precision": "bf16",
    "ema_decay": 0.9,
}


@pytest.mark.parametrize(
    ("modality", "options"), [("tabular", TABULAR_OPTIONS), ("text", TEXT_OPTIONS)]
)
def test_a_run_killed_twice_ends_with_the_same_bytes_with_any_options(
    train_once: Any, tmp_path: Path, modality: str, options: dict[str, Any]
) -> None:
    job, whole = train_once(modality, **options)
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


def test_a_run_goes_on_in_another_worktree_of_its_repository(
    train_once: Any, tmp_path: Path
) -> None:
    job, whole = train_once("tabular")
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init")
    git(repository, "commit", "--allow-empty", "-m", "nothing")
    first = tmp_path / "first"
    second = tmp_path / "second"
    for worktree in (first, second):
        git(repository, "worktree", "add", "--detach", str(worktree))
    assert Job("tabular", job.folder, first, {})("before forward", 6) == -signal.SIGKILL
    [run_folder] = (repository / "checkpoints").iterdir()
    newest = checkpoint.list_checkpoints(run_folder)[-1]
    assert not (first / "checkpoints").exists()
    shutil.copytree(job.folder / "split", second / "elsewhere" / "split")
    shutil.rmtree(first)
    other = Job("tabular", second / "elsewhere", second, {})
    assert other("before forward", 1) == -signal.SIGKILL
    n_steps_left = 12 - int(newest.name)
    assert other("before forward", n_steps_left + 1) == 0  # it makes no more steps than these
    assert other.model() == whole


def hold(folder: Path, fingerprint: list[str], is_held: Event, leave: Event) -> None:
    with checkpoint.lock_run_folder(folder, fingerprint):
        is_held.set()
        leave.wait(60)


def test_a_run_that_another_process_trains_is_refused_and_kept(here: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    is_held = context.Event()
    leave = context.Event()
    folder = here / "checkpoints" / "tiny"
    process = context.Process(target=hold, args=(folder, ["a"], is_held, leave))
    process.start()
    assert is_held.wait(60)
    message = (
        "the same data and recipe are being trained already, by another worktree's run in .*: "
        "wait until it has ended"
    )
    with (
        pytest.raises(RetryableError, match=message),
        checkpoint.lock_run_folder(folder, ["a"]),
    ):
        pass
    [run_folder] = folder.iterdir()
    (run_folder / "worktree").write_text(str(here / "another"))
    (here / "another").mkdir()
    with checkpoint.lock_run_folder(folder, ["b"]) as other:
        assert run_folder.is_dir()
        (here / "another").rmdir()
    with checkpoint.lock_run_folder(folder, ["b"]):
        assert not run_folder.is_dir()
    leave.set()
    process.join(60)
    with checkpoint.lock_run_folder(folder, ["a"]) as again:
        assert again == run_folder
        assert not other.is_dir()


def test_a_broken_newest_checkpoint_is_refused_and_the_one_before_it_used(
    train_once: Any, tmp_path: Path
) -> None:
    job, whole = train_once("tabular")
    killed = Job("tabular", job.folder, tmp_path, {})
    assert killed("before forward", 6) == -signal.SIGKILL
    older, newest = sorted(tmp_path.glob("checkpoints/*/0*"))
    assert (older.name, newest.name) == ("000000004", "000000005")
    with (newest / "weights.safetensors").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"x")
    latest = checkpoint.load_latest(newest.parent)
    assert latest
    assert latest.state["step"] == 4
    assert killed() == 0
    assert killed.model() == whole


@pytest.mark.parametrize("change", [{"learning_rate": 1e-2}, {"seed": 1}])
def test_a_checkpoint_of_another_recipe_is_not_used(
    train_once: Any, tmp_path: Path, change: dict[str, Any]
) -> None:
    job, _ = train_once("tabular")
    killed = Job("tabular", job.folder, tmp_path / "a", {})
    other = Job("tabular", job.folder, tmp_path / "a", change)
    clean = Job("tabular", job.folder, tmp_path / "b", change)
    assert killed("before forward", 6) == -signal.SIGKILL
    assert other() == 0
    assert clean() == 0
    assert other.model() == clean.model()


def test_a_checkpoint_that_was_put_into_another_recipes_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    content = Checkpoint({"step": 3}, {"weights": {"w": torch.zeros(2)}})
    checkpoint.write_checkpoint(tmp_path / "original", 3, content)
    shutil.copytree(tmp_path / "original", tmp_path / "other")
    assert checkpoint.load_latest(tmp_path / "original") is not None
    assert checkpoint.load_latest(tmp_path / "other") is None
    message = "it belongs to original, which is another recipe, data or version"
    assert message in capsys.readouterr().out


def test_checkpoints_wait_until_they_take_no_more_than_their_fraction_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("tasks.training.checkpoint.time.monotonic", lambda: now[0])
    schedule = CheckpointSchedule(seconds=1.0, n_bytes=0)

    def save() -> None:
        now[0] += 2.0

    for _ in range(10_000):
        now[0] += 0.1
        if schedule.is_due():
            schedule.measure(save)
    assert schedule.total_save_seconds / now[0] < checkpoint.MAX_TIME_FRACTION + 1e-9
    assert schedule.n_saves == 15
    assert schedule.describe() == "15 checkpoints took 30.0 s, 2.9% of the training"
