"""The interfaces of a modality: how one kind of data becomes batches, a network and answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import JsonValue

from tasks.contracts.model_info import LoadedBy, ModelInfo, ModelInput
from tasks.modalities import batching
from tasks.problems.base import Problem, Targets
from tasks.problems.batch import Batch
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

if TYPE_CHECKING:
    import torch

    from tasks.recipe.pretrain import Pretrain
    from tasks.recipe.train import Train

InputRow = Any  # a row as its modality reads it: a text, an image's bytes, a dictionary of cells, …
Example = Any  # an encoded row
InitFunction = Callable[[list[Example], Targets], None]  # sets a network's weights before training
PredictBaseline = Callable[[Sequence[InputRow], Targets, Sequence[InputRow], Problem], Floats]


class Trainer(ABC):
    """What the training loop needs of a modality. It lives only while training, and needs torch.

    By default all examples have the same size, and the network starts as it was built.
    """

    SUPPORTS_MIXED_PRECISION: ClassVar[bool] = False  # whether bf16 pays if the hardware has it
    # Whether the network's inputs are pixels, a table's features or a text's embeddings, which the
    # attacks and explanations of the evaluation can change by gradients.
    HAS_DIFFERENTIABLE_INPUTS: ClassVar[bool] = False
    UNIT: ClassVar[str] = "rows"  # what progress is counted in
    network: Any  # a torch.nn.Module; each modality reads submodules of its own
    config: "Train"
    problem: Problem

    @abstractmethod
    def encode(self, rows: Sequence[InputRow]) -> list[Example]:
        """Turn rows into examples. This happens once, before the first epoch."""

    def count_units(self, example: Example) -> int:
        """Count the units of progress in an example."""
        return 1

    def batches(self, examples: list[Example], epoch: int | None) -> list[list[int]]:
        """Return the row numbers of each batch of an epoch.

        They depend on the seed and the epoch alone. Without an epoch the order is fixed.
        """
        return batching.split_into_batches(len(examples), epoch, self.config)

    def prepare(self, examples: list[Example], targets: Targets) -> None:  # noqa: B027
        """Set weights that are known before the first step, such as the head's."""

    @abstractmethod
    def collate(self, examples: list[Example], generator: "torch.Generator | None") -> Batch:
        """Build a batch; with a generator, for training: augmented where the modality does so."""


class ModelTrainer(Trainer):
    """Trains a model that is exported and served.

    Attributes:
        WEIGHT_FILES: The files of the model's folder that `load_weights` reads.
        warnings: What people should know of how the training rows are read.
    """

    WEIGHT_FILES: ClassVar[tuple[str, ...]] = ("model.safetensors",)
    warnings: Sequence[str] = ()

    @property
    def labels(self) -> list[str]:
        """The labels of the exported model."""
        return self.problem.labels

    def input_signature(self) -> JsonValue:
        """Describe what the network's inputs stand for, as far as their shapes do not say.

        Only a model with the same signature can be trained further.
        """
        return None

    @abstractmethod
    def export(self, folder: Path) -> ModelInput:
        """Write model.onnx and what serving needs beside it; return the part of model.json."""

    def save_weights(self, folder: Path) -> LoadedBy | None:
        """Write the weights, as other libraries load them if one has such a network.

        Returns:
            What loads the folder; None if only Millrace knows the network.
        """
        from safetensors.torch import save_file

        weights = self.network.state_dict()
        on_cpu = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        save_file(on_cpu, ModelFolder(folder).weights)
        return None

    def load_weights(self, folder: Path) -> "dict[str, torch.Tensor]":
        """Read what `save_weights` wrote, under the names of the network's own parameters."""
        from safetensors.torch import load_file

        return load_file(ModelFolder(folder).weights)


@dataclass(frozen=True)
class BaseSize:
    """The size of a pretrained base."""

    parameters: int
    vocab_size: int


class Pretrainer(Trainer):
    """Trains a base on rows without labels."""

    @abstractmethod
    def save_base(self, folder: Path) -> BaseSize:
        """Write the base and its tokenizer as transformers loads them."""


class Predictor(ABC):
    """An exported model. Needs onnxruntime, not torch."""

    problem: Problem
    labels: list[str]

    @abstractmethod
    def __call__(self, rows: Sequence[InputRow]) -> Floats:
        """Return the answers for rows, `[rows, width]`; a classifier's rows each sum to 1."""

    def sample_continuations(
        self,
        rows: Sequence[InputRow],
    ) -> list[dict[str, str]]:
        """Continue the prompts of some of the rows; nothing if the model writes no text."""
        return []


@dataclass(frozen=True)
class Modality:
    """The parts of a modality. Each modality's module has one, named MODALITY."""

    trainer: "Callable[[Train, Sequence[InputRow], Problem], ModelTrainer]"
    predictor: Callable[[Path, ModelInfo, int], Predictor]
    predict_baseline: PredictBaseline
    pretrainer: "Callable[[Pretrain, Sequence[InputRow]], Pretrainer] | None" = None
