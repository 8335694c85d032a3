"""Modalities: how one kind of data becomes batches, a network, an exported file and probabilities.

Training, evaluation and serving go through the same adapter, so they cannot disagree about preprocessing. A new modality is one module
with these two classes and one line in ADAPTERS.
"""

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import files, intervals
from tasks.mistakes import nearest
from tasks.step import Failure

if TYPE_CHECKING:
    import torch

    from tasks.recipe import Recipe, Train

ADAPTERS = {"text": "text", "image": "image", "tabular": None}  # modality → the column that holds its content, if it is one


class Trainer(Protocol):
    """What the training loop needs. It lives only while training, and is the only part that needs torch."""

    network: "torch.nn.Module"
    mixed: bool  # whether bf16 pays, where the hardware has it
    weights: "torch.Tensor | None"  # of each class in the loss, if it has any

    def encode(self, rows: Sequence[Any]) -> list[Any]:
        """Rows of the content column → examples, once."""

    def batches(self, examples: list[Any], epoch: int | None) -> list[list[int]]:
        """Indices of each batch of an epoch, a pure function of (seed, epoch); in reading order where epoch is None."""

    def inputs(self) -> Any:
        """What the numbers that go into the network stand for, as far as its shapes do not say: only a model of the same can be trained on."""

    def prepare(self, examples: list[Any], labels: NDArray[np.int64]) -> None:
        """Set what is best known before the first step, such as the head."""

    def collate(self, examples: list[Any], generator: "torch.Generator | None") -> tuple["torch.Tensor", ...]:
        """The network's inputs for a batch; augmented from the generator where there is one."""

    def loss(self, outputs: Any, inputs: tuple["torch.Tensor", ...], targets: "torch.Tensor") -> tuple["torch.Tensor", float]:
        """The batch's loss as a sum, and what it is to be divided by: rows, or tokens. A batch may be one part of a larger one."""

    def scores(self, outputs: Any, inputs: tuple["torch.Tensor", ...]) -> "torch.Tensor":
        """What `measure` needs of each row, shape (rows, numbers)."""

    def measure(self, targets: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
        """The metrics of all rows of the validation split, by name."""

    def export(self, folder: Path) -> dict[str, Any]:
        """Write what serving needs beside the ONNX file, and the ONNX file; return the adapter's part of model.json."""


class Classifier:
    """What the trainers of all classifiers share: cross-entropy, with label smoothing and weights of classes, and its metrics."""

    section: "Train"
    weights: "torch.Tensor | None" = None  # of each class, 1 for the average row

    def loss(self, outputs: "torch.Tensor", inputs: tuple["torch.Tensor", ...], targets: "torch.Tensor") -> tuple["torch.Tensor", float]:
        from torch.nn.functional import cross_entropy

        weights = None if self.weights is None else self.weights.to(outputs.device)
        total = cross_entropy(outputs.float(), targets, weights, reduction="sum", label_smoothing=self.section.label_smoothing)
        return total, float(len(targets))

    def inputs(self) -> Any:
        return None

    def scores(self, outputs: "torch.Tensor", inputs: tuple["torch.Tensor", ...]) -> "torch.Tensor":
        return outputs.float().softmax(1)

    def measure(self, targets: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
        return intervals.measure(targets, scores)


class Predictor(Protocol):
    """The exported model. Needs onnxruntime, not torch."""

    labels: list[str]

    def __call__(self, rows: Sequence[Any]) -> NDArray[np.float64]:
        """Rows of the content column → probabilities, shape (rows, labels), each row summing to 1."""


def module(modality: str) -> Any:
    return importlib.import_module(f"tasks.modalities.{modality}")


def rows(recipe: "Recipe", table: pa.Table) -> list[Any]:
    """The model's input for each row: the text, the bytes of the image, or a mapping from column to cell."""
    column = ADAPTERS[recipe.modality]
    if column:
        return list(table[column].to_pylist())
    names = recipe.columns.features or [name for name in table.column_names if name not in files.ROLES]
    for name in names:
        if name not in table.column_names:
            raise Failure(f"columns.features: the data has no column {name!r}{nearest(name, table.column_names)}; it has {', '.join(table.column_names)}.")
    return list(table.select(names).to_pylist())


def batches(count: int, epoch: int | None, section: "Train") -> list[list[int]]:
    """Indices of examples of one size in batches, shuffled as a pure function of (seed, epoch); in reading order where epoch is None."""
    order = list(range(count))
    if epoch is not None:
        random.Random(f"{section.seed}-{epoch}").shuffle(order)  # noqa: S311  not for secrets
    return [order[start : start + section.batch_size] for start in range(0, count, section.batch_size)]


def trainer(recipe: "Recipe", rows: Sequence[Any], classes: int) -> Trainer:
    """The adapter and its network, for these rows to train on."""
    made: Trainer = module(recipe.modality).Trainer(recipe.train, rows, classes)
    return made


def predictor(folder: Path, threads: int = 2) -> Predictor:
    """The exported model in `folder`. Raises Failure where a file is missing or names an unknown modality."""
    about = files.read_json(folder / "model.json")
    if about.get("modality") not in ADAPTERS:
        raise Failure(f"{folder / 'model.json'}: modality {about.get('modality')!r} is not one of {', '.join(ADAPTERS)}: the model is from another version.")
    made: Predictor = module(about["modality"]).Predictor(folder, about, threads)
    return made


def predict(predictor: Predictor, rows: Sequence[Any]) -> NDArray[np.float64]:
    """Probabilities of shape (rows, classes), refused where they are none."""
    probabilities = predictor(rows)
    bad = np.flatnonzero(~np.isfinite(probabilities).all(1) | (np.abs(probabilities.sum(1) - 1) > 1e-6))
    if len(bad):
        raise Failure(f"the model gives no probabilities for {len(bad)} of {len(rows)} test rows, first row {bad[0]}: it is broken; train again.")
    return probabilities


def session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise Failure(f"{path} cannot be loaded as an ONNX model ({files.first_line(error)}): train again, or fetch it again.") from None


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    result: NDArray[np.float64] = exponential / exponential.sum(axis=1, keepdims=True)
    return result


def export_onnx(network: "torch.nn.Module", inputs: tuple["torch.Tensor", ...], names: list[str], dynamic: tuple[Any, ...], path: Path) -> None:
    """Write the network as ONNX with equal bytes for equal weights: the exporter's notes on source files and stack frames are taken out."""
    import logging
    import warnings

    import onnx
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with files.whole(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(network.eval(), inputs, dynamo=True, dynamic_shapes=dynamic, input_names=names, output_names=["logits"], verbose=False)
        assert program is not None
        proto = program.model_proto
        del proto.metadata_props[:]
        graphs = [proto.graph, *proto.functions]
        for graph in graphs:
            del graph.metadata_props[:]
            graph.doc_string = ""
            for node in graph.node:
                del node.metadata_props[:]
                node.doc_string = ""
        for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
            del value.metadata_props[:]
        onnx.save(proto, str(temporary))
