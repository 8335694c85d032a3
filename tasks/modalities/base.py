"""Base."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tasks.modalities import batching
from tasks.problems.base import Problem, Targets
from tasks.statistics.array_types import Floats

if TYPE_CHECKING:
    import torch

    from tasks.recipe.train import Train


class Trainer(Protocol):
    """What the training loop needs. It lives only while training, and is the only part that needs torch.

    Unless an adapter says otherwise, its examples are all of one size, and nothing is known before the first step.
    """

    network: "torch.nn.Module"
    section: "Train"
    mixed: bool  # whether bf16 pays, where the hardware has it
    problem: Problem

    def encode(self, rows: Sequence[Any]) -> list[Any]:
        """Rows of the content column → examples, once."""

    def batches(self, examples: list[Any], epoch: int | None) -> list[list[int]]:
        """Indices of each batch of an epoch, a pure function of (seed, epoch); in reading order where epoch is None."""
        return batching.split_into_batches(len(examples), epoch, self.section)

    def inputs(self) -> Any:
        """What the numbers that go into the network stand for, as far as its shapes do not say: only a model of the same can be trained on."""
        return None

    def prepare(self, examples: list[Any], targets: Targets) -> None:
        """Set what is best known before the first step, such as the head."""
        return

    def collate(
        self, examples: list[Any], generator: "torch.Generator | None"
    ) -> tuple["torch.Tensor", ...]:
        """The network's inputs for a batch; augmented from the generator where there is one."""

    def export(self, folder: Path) -> dict[str, Any]:
        """Write what serving needs beside the ONNX file, and the ONNX file; return the adapter's part of model.json."""


class Predictor(Protocol):
    """The exported model. Needs onnxruntime, not torch."""

    labels: list[str]
    problem: Problem

    def __call__(self, rows: Sequence[Any]) -> Floats:
        """Rows of the content column → answers, shape (rows, width): of a classifier probabilities, each row summing to 1."""
