"""The training loop: checkpoints, losses that are not finite, and the memory that a step needs."""

import dataclasses
import io
import json
import multiprocessing
import resource
import shutil
import sys
from multiprocessing.queues import Queue
from pathlib import Path

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
from tasks.training.checkpoint import Checkpoint
from tasks.training.training_data import TrainingData
from tests import tiny

CONFIG = Train(
    epochs=3,
    batch_size=8,
    checkpoint_seconds=0.0,
    learning_rate=1e-2,
    augment=Augment(shift=1, rotate=5.0),
)


def draw_images(count: int) -> tuple[list[bytes], np.ndarray]:
    """Noise of two brightnesses as PNG files, and which of the two each one has."""
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 2
    rows = []
    for label in labels:
        pixels = (rng.random((8, 8)) * 100 + 100 * label).astype("uint8")
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows.append(buffer.getvalue())
    return rows, labels


def test_a_broken_checkpoint_is_refused_and_the_one_before_it_used(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        tensors = {"weights": {"w": torch.full((4,), float(step))}}
        checkpoint.write_checkpoint(tmp_path, step, Checkpoint({"step": step}, tensors))
    names = [path.name for path in checkpoint.list_checkpoints(tmp_path)]
    assert names == ["000000002", "000000003"]
    newest = tmp_path / "000000003" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    latest = checkpoint.load_latest(tmp_path)
    assert latest
    assert latest.state == {"step": 2}


class TrainingStoppedError(Exception):
    """Someone ends the training."""


def test_a_resumed_training_shows_the_metric_that_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    rows, labels = draw_images(16)
    config = CONFIG.model_copy(update={"metric": "macro_f1"})
    calls = []

    def interrupt(*_: object) -> None:
        calls.append(1)
        if len(calls) == 6:  # in each epoch two steps of training and two of measuring
            raise TrainingStoppedError

    def fit(*, is_interrupted: bool) -> History:
        adapter = ImageTrainer(config, rows, tiny.TWO)
        if is_interrupted:
            adapter.network.register_forward_pre_hook(interrupt)
        examples = adapter.encode(rows)
        skewed = np.array([0, *[1] * 15], np.int64)  # of which accuracy and macro-F1 differ
        data = TrainingData(examples, labels, examples, skewed)
        return loop.fit(adapter, config, data, tmp_path)

    with pytest.raises(TrainingStoppedError):
        fit(is_interrupted=True)
    capsys.readouterr()
    history = fit(is_interrupted=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("resumed at step 3 (epoch 2)")
    assert history[0].val["macro_f1"] != history[0].val["accuracy"]
    assert f"  val_macro_f1 {history[0].val['macro_f1']:.4f}  " in lines[1]
    assert "accuracy" not in lines[1]


def test_the_lines_of_a_history_do_not_depend_on_the_order_of_metrics() -> None:
    record = EpochRecord(1, 4, 0.5, {"macro_f1": 0.25, "accuracy": 0.75})
    reordered = EpochRecord(1, 4, 0.5, {"accuracy": 0.75, "macro_f1": 0.25})
    line = '{"epoch": 1, "loss": 0.5, "step": 4, "val_accuracy": 0.75, "val_macro_f1": 0.25}\n'
    assert epoch_record.format_history([record]) == line
    assert epoch_record.format_history([reordered]) == line
    assert EpochRecord.read(json.loads(line)) == record
    on_gpu = epoch_record.format_history([dataclasses.replace(record, gpu_mib=7)])
    assert on_gpu.startswith('{"epoch": 1, "gpu_mib": 7, "loss"')


def test_a_loss_that_is_not_a_number_names_the_step(tmp_path: Path) -> None:
    rows, labels = draw_images(16)
    adapter = ImageTrainer(CONFIG, rows, tiny.TWO)
    examples = [tensor * float("nan") for tensor in adapter.encode(rows)]
    data = TrainingData(examples, labels, examples, labels)
    message = r"training diverged: the loss of step 0 \(epoch 1\) is nan"
    with pytest.raises(StageError, match=message):
        loop.fit(adapter, CONFIG, data, tmp_path)


def test_a_gradient_that_is_not_a_number_names_the_step_though_its_loss_is_finite(
    tmp_path: Path,
) -> None:
    rows, labels = draw_images(16)
    adapter = ImageTrainer(CONFIG, rows, tiny.TWO)
    examples = adapter.encode(rows)
    weights = adapter.network.get_parameter("head.weight")
    weights.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    before = weights.detach().clone()
    message = (
        r"the norm of the gradients of step 0 \(epoch 1\) is (inf|nan), in the rows number .* "
        "and 3 more"
    )
    with pytest.raises(StageError, match=message):
        loop.fit(adapter, CONFIG, TrainingData(examples, labels, examples, labels), tmp_path)
    assert torch.equal(weights, before)


def measure_added_memory(n_rows: int, queue: "Queue[int]") -> None:
    """Put by how many bytes training raises the peak of this process's memory.

    The encoded examples do not count.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, n_rows)
    config = Train(epochs=1, hidden_sizes=[64], batch_size=512)
    names = [f"c{column}" for column in range(50)]
    values = np.arange(100.0)[:, None] + np.arange(50)  # [rows, columns]
    table = [dict(zip(names, row, strict=True)) for row in values.tolist()]
    adapter = TabularTrainer(config, table, tiny.TWO)
    features = rng.normal(size=(n_rows, adapter.n_features)).astype(np.float32)
    examples = list(torch.from_numpy(features))
    val = examples[:64], targets[:64]
    few = TrainingData(examples[:1024], targets[:1024], *val)
    loop.fit(adapter, config, few, Path("unused"))  # what is loaded at the first step
    before = psutil.Process().memory_info().rss
    loop.fit(adapter, config, TrainingData(examples, targets, *val), Path("unused"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    queue.put(max(0, peak - before))


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read as Linux tells it")
def test_the_memory_that_training_adds_does_not_grow_with_the_rows() -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    peaks = []
    for n_rows in (4_000, 100_000):
        process = context.Process(target=measure_added_memory, args=(n_rows, queue))
        process.start()
        peaks.append(queue.get(timeout=120))
        process.join()
    # Of a row its place in the order alone; its features are 200 bytes.
    assert peaks[1] - peaks[0] < 100_000 * 60


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles with g++: apt-get install g++")
def test_a_compiled_network_learns_and_is_exported_as_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    losses = []
    predictions = []
    for name, is_compiled in (("plain", False), ("compiled", True)):
        folder = tmp_path / name
        paths = StagePaths(folder)
        recipe = tiny.recipe("tabular", folder, epochs=2, dropout=0.0, compile=is_compiled)
        tiny.split("tabular", folder / "split")
        tasks_train.run(recipe, paths, folder / "checkpoints")
        lines = paths.model.history.read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
        rows = modalities.extract_inputs(recipe, files.read_table(paths.split.val))
        predictions.append(modalities.load_predictor(paths.model.path)(rows))
    assert any((tmp_path / "compiled").rglob("*.cpp"))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert predictions[1] == pytest.approx(predictions[0], abs=1e-3)
