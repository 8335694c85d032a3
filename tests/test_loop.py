"""Training: exact resume, and checkpoints that are whole or absent."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks import checkpoint, loop
from tasks.modalities import image
from tasks.recipe import Augment, Train
from tasks.step import Failure

SECTION = Train(epochs=3, batch_size=8, checkpoint_seconds=0.0, learning_rate=1e-2, augment=Augment(shift=1, rotate=5.0))


def pictures(count: int) -> tuple[list[bytes], np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 2
    rows = []
    for label in labels:
        buffer = io.BytesIO()
        Image.fromarray((rng.random((8, 8)) * 100 + 100 * label).astype("uint8")).save(buffer, "PNG")
        rows.append(buffer.getvalue())
    return rows, labels


class Killed(Exception):
    pass


def weights(folder: Path, kill_at: int | None = None) -> dict[str, torch.Tensor]:
    """The weights after training; with `kill_at`, after a run that ended at that step and one that took it up."""
    rows, labels = pictures(48)

    def fit() -> dict[str, torch.Tensor]:
        adapter = image.Trainer(SECTION, rows, 2)
        examples = adapter.encode(rows)
        loop.fit(adapter, SECTION, examples, labels, examples[:16], labels[:16], folder)
        return {name: tensor.clone() for name, tensor in adapter.network.state_dict().items()}

    if kill_at is not None:
        original = loop.Run.update

        def dying(run: loop.Run, *arguments: object) -> float:
            if run.step == kill_at:
                raise Killed
            return original(run, *arguments)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop.Run, "update", dying)
            with pytest.raises(Killed):
                fit()
    return fit()


@pytest.mark.parametrize("kill_at", [1, 7, 13])
def test_a_run_that_was_cut_off_ends_with_the_same_bits(tmp_path: Path, kill_at: int) -> None:
    whole, resumed = weights(tmp_path / "a"), weights(tmp_path / "b", kill_at)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_broken_checkpoint_is_refused_and_the_one_before_it_used(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": step}, {"weights": {"w": torch.full((4,), float(step))}})
    assert [path.name for path in checkpoint.found(tmp_path)] == ["000000002", "000000003"]
    newest = tmp_path / "000000003" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    found = checkpoint.latest(tmp_path)
    assert found and found[0] == {"step": 2}


def test_a_loss_that_is_not_a_number_names_the_step(tmp_path: Path) -> None:
    rows, labels = pictures(16)
    adapter = image.Trainer(SECTION, rows, 2)
    examples = [tensor * float("nan") for tensor in adapter.encode(rows)]
    with pytest.raises(Failure, match=r"training diverged: the loss of step 0 \(epoch 1\) is nan"):
        loop.fit(adapter, SECTION, examples, labels, examples, labels, tmp_path)
