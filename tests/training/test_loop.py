"""Training: checkpoints that are whole or absent, losses that are no numbers, and the memory that a step needs."""

import dataclasses
import io
import json
import multiprocessing
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tasks import modalities
from tasks import train as tasks_train
from tasks.contracts import epoch_record
from tasks.contracts.epoch_record import EpochRecord, History
from tasks.core.errors import StageError
from tasks.modalities.image import ImageTrainer
from tasks.modalities.tabular import TabularTrainer
from tasks.recipe.train import Augment, Train
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tasks.telemetry import progress
from tasks.training import checkpoint, loop
from tests import tiny

SECTION = Train(
    epochs=3,
    batch_size=8,
    checkpoint_seconds=0.0,
    learning_rate=1e-2,
    augment=Augment(shift=1, rotate=5.0),
)


def pictures(count: int) -> tuple[list[bytes], np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 2
    rows = []
    for label in labels:
        buffer = io.BytesIO()
        Image.fromarray((rng.random((8, 8)) * 100 + 100 * label).astype("uint8")).save(
            buffer, "PNG"
        )
        rows.append(buffer.getvalue())
    return rows, labels


def test_a_broken_checkpoint_is_refused_and_the_one_before_it_used(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.write_checkpoint(
            tmp_path, step, {"step": step}, {"weights": {"w": torch.full((4,), float(step))}}
        )
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == [
        "000000002",
        "000000003",
    ]
    newest = tmp_path / "000000003" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = checkpoint.load_latest(tmp_path)
    assert found and found[0] == {"step": 2}


class Interrupted(Exception):
    """Someone ends the training."""


def test_a_resumed_training_tells_the_metric_that_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    rows, labels = pictures(16)
    section = SECTION.model_copy(update={"metric": "macro_f1"})
    calls = []

    def interrupt(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 6:  # in each epoch two steps of training and two of measuring
            raise Interrupted

    def fitted(interrupted: bool) -> History:
        adapter = ImageTrainer(section, rows, tiny.TWO)
        if interrupted:
            adapter.network.register_forward_pre_hook(interrupt)
        examples = adapter.encode(rows)
        skewed = np.array([0, *[1] * 15], np.int64)  # of which accuracy and macro-F1 differ
        return loop.fit(adapter, section, examples, labels, examples, skewed, tmp_path)

    with pytest.raises(Interrupted):
        fitted(interrupted=True)
    capsys.readouterr()
    history = fitted(interrupted=False)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("resumed at step 3 (epoch 2)")
    assert history[0].val["macro_f1"] != history[0].val["accuracy"]
    assert f"  val_macro_f1 {history[0].val['macro_f1']:.4f}  " in told[1]
    assert "accuracy" not in told[1]


def test_the_lines_of_a_history_do_not_depend_on_the_order_of_metrics() -> None:
    one = EpochRecord(1, 4, 0.5, {"macro_f1": 0.25, "accuracy": 0.75})
    other = EpochRecord(1, 4, 0.5, {"accuracy": 0.75, "macro_f1": 0.25})
    line = '{"epoch": 1, "loss": 0.5, "step": 4, "val_accuracy": 0.75, "val_macro_f1": 0.25}\n'
    assert epoch_record.format_history([one]) == epoch_record.format_history([other]) == line
    assert EpochRecord.read(json.loads(line)) == one
    assert epoch_record.format_history([dataclasses.replace(one, gpu_mib=7)]).startswith(
        '{"epoch": 1, "gpu_mib": 7, "loss"'
    )


def test_a_loss_that_is_not_a_number_names_the_step(tmp_path: Path) -> None:
    rows, labels = pictures(16)
    adapter = ImageTrainer(SECTION, rows, tiny.TWO)
    examples = [tensor * float("nan") for tensor in adapter.encode(rows)]
    with pytest.raises(
        StageError, match=r"training diverged: the loss of step 0 \(epoch 1\) is nan"
    ):
        loop.fit(adapter, SECTION, examples, labels, examples, labels, tmp_path)


def test_a_gradient_that_is_not_a_number_names_the_step_though_its_loss_is_one(
    tmp_path: Path,
) -> None:
    rows, labels = pictures(16)
    adapter = ImageTrainer(SECTION, rows, tiny.TWO)
    examples, weights = adapter.encode(rows), adapter.network.head.weight
    weights.register_hook(lambda gradient: gradient * float("inf"))
    before = weights.detach().clone()
    with pytest.raises(
        StageError,
        match=r"the norm of the gradients of step 0 \(epoch 1\) is (inf|nan), in the rows number .* and 3 more",
    ):
        loop.fit(adapter, SECTION, examples, labels, examples, labels, tmp_path)
    assert torch.equal(weights, before)


def added(rows: int, queue: Any) -> None:
    """By how many bytes training itself raises the peak of this process's memory, the encoded examples not counted."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, rows)
    section = Train(epochs=1, hidden_sizes=[64], batch_size=512)
    adapter = TabularTrainer(
        section,
        [{f"c{column}": float(value + column) for column in range(50)} for value in range(100)],
        tiny.TWO,
    )
    examples = list(
        torch.from_numpy(rng.normal(size=(rows, adapter.n_features)).astype(np.float32))
    )
    loop.fit(
        adapter,
        section,
        examples[:1024],
        targets[:1024],
        examples[:64],
        targets[:64],
        Path("unused"),
    )  # what is loaded at the first step
    before = psutil.Process().memory_info().rss
    loop.fit(adapter, section, examples, targets, examples[:64], targets[:64], Path("unused"))
    queue.put(max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
def test_the_memory_that_training_adds_does_not_grow_with_the_rows() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    peaks = []
    for rows in (4_000, 100_000):
        process = context.Process(target=added, args=(rows, queue))
        process.start()
        peaks.append(queue.get(timeout=120))
        process.join()
    assert (
        peaks[1] - peaks[0] < 100_000 * 60
    )  # of a row its place in the order alone; its features are 200 bytes


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++: apt-get install g++")
def test_a_compiled_network_learns_and_is_exported_as_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    losses, answers = [], []
    for name, compiled in (("plain", False), ("compiled", True)):
        folder = tmp_path / name
        made = tiny.recipe("tabular", folder, epochs=2, dropout=0.0, compile=compiled)
        tiny.split("tabular", folder / "split")
        tasks_train.run(made, StagePaths(folder), folder / "checkpoints")
        losses.append(
            [
                json.loads(line)["loss"]
                for line in (folder / "model" / "history.jsonl").read_text().splitlines()
            ]
        )
        answers.append(
            modalities.load_predictor(folder / "model")(
                modalities.extract_inputs(made, files.read_table(folder / "split" / "val.parquet"))
            )
        )
    assert any((tmp_path / "compiled").rglob("*.cpp"))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert answers[1] == pytest.approx(answers[0], abs=1e-3)
