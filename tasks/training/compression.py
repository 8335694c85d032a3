"""Compression: the smallest weights set to zero, the others in 8 bits, with what each of these cost on the validation split.

What is written at the end is the one exported model: evaluation, the gate and the server see nothing else.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import prune as masks

from tasks import modalities
from tasks.contracts.model_info import CompressionStep, ModelInfo
from tasks.modalities.base import Trainer
from tasks.problems.base import Targets
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.storage import files
from tasks.storage.layout import ModelFolder
from tasks.training import distributed

PRUNABLE_LAYERS = (
    torch.nn.Linear,
    torch.nn.Conv1d,
    torch.nn.Conv2d,
)  # where almost all weights are; embeddings are looked up, and gain nothing
FitFunction = Callable[[Train], Any]
LabelledRows = tuple[Sequence[Any], Targets]
PRUNING_LR_FACTOR = 0.1  # the learning rate after pruning, as a share of the recipe's


def compress_model(
    recipe: Recipe,
    adapter: Trainer,
    teacher: Path | None,
    folder: Path,
    val: LabelledRows,
    fit: FitFunction,
    write: Callable[[], None],
) -> None:
    """Make the model in `folder` smaller as the recipe says, and note in model.json what it achieves on the validation rows before and after, beside its
    teacher where it has one.

    `fit` trains the adapter's network on, `write` writes the model from it.
    """
    section, first = (
        recipe.export,
        distributed.rank() == 0,
    )  # every process prunes and trains, the first one writes and measures
    steps = [measure_model(folder, "as trained", *val)] if first else []
    if teacher and first:
        steps.insert(0, measure_model(teacher, "the teacher", *val))
    if section.prune:
        print(
            f"the smallest {section.prune:.0%} of the weights are set to zero; the others are trained for another epoch",
            flush=True,
        )
        prune_and_refit(adapter, section.prune, recipe.train, fit)
        write()
        steps += (
            [measure_model(folder, f"{section.prune:.0%} of the weights zero", *val)]
            if first
            else []
        )
    if section.int8 and first:
        quantize_weights(folder / "model.onnx")
        steps.append(measure_model(folder, "weights in 8 bits", *val))
    if first:
        path = ModelFolder(folder).info
        ModelInfo.read(path).model_copy(update={"export": steps}).write(path)


def measure_model(
    folder: Path, name: str, rows: Sequence[Any], targets: Targets
) -> CompressionStep:
    """What the exported model achieves on rows, and its size. With one thread, since sums in another order round otherwise."""
    predictor = modalities.load_predictor(folder, 1)
    metrics = {
        metric: round(value, 6)
        for metric, value in predictor.problem.measure(
            targets, modalities.predict(predictor, rows)
        ).items()
    }
    size = ModelFolder(folder).onnx.stat().st_size
    return CompressionStep(model=name, bytes=size, metrics=metrics)


def prune_and_refit(adapter: Trainer, share: float, section: Train, fit: FitFunction) -> None:
    """Set this share of each layer's weights, the smallest, to zero, and train the others for another epoch (Han et al. 2015)."""
    layers = [layer for layer in adapter.network.modules() if isinstance(layer, PRUNABLE_LAYERS)]
    for layer in layers:
        layer.weight.data = layer.weight.data.contiguous()  # as torch's pruning wants it
        masks.l1_unstructured(layer, "weight", share)  # type: ignore[no-untyped-call]
    adapter.prepare = lambda examples, targets: None  # type: ignore[method-assign]  # it would begin with a new head
    fit(
        section.model_copy(
            update={"epochs": 1, "learning_rate": section.learning_rate * PRUNING_LR_FACTOR}
        )
    )
    for layer in layers:
        masks.remove(layer, "weight")  # type: ignore[no-untyped-call]


def quantize_weights(path: Path) -> None:
    """The weights of an ONNX model as 8-bit integers, a scale for each channel; what goes into a layer is quantised as it comes.

    Of the 8 bits 7 are used: on processors without VNNI the sums of products would overflow, and score otherwise than where the model was judged.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(
        logging.WARNING
    )  # it asks for a preparation that only static quantisation needs
    try:
        with files.atomic_file(path) as temporary:
            quantize_dynamic(
                path, temporary, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
            )
    finally:
        logging.disable(logging.NOTSET)
