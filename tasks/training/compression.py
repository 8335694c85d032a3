"""Making the exported model smaller: the smallest weights become zero, the others 8-bit integers.

What each step costs is measured on the validation rows. The model that is left at the end is the
only one: evaluation, the gate and the server see no other.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.utils import prune as masks

from tasks import modalities
from tasks.contracts.epoch_record import History
from tasks.contracts.model_info import INT8_STEP, CompressionStep
from tasks.modalities.base import Predictor, Trainer
from tasks.recipe.train import Train
from tasks.storage import files
from tasks.storage.layout import ModelFolder
from tasks.training import distributed
from tasks.training.export import ModelExport
from tasks.training.labelled_rows import LabelledRows

# Where almost all weights are. Embeddings are looked up, and gain nothing.
PRUNABLE_LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)
PRUNING_LR_FACTOR = 0.1  # the learning rate after pruning, as a fraction of the recipe's
Refit = Callable[[Train], History]  # trains the network on, with this section


def compress_model(
    model: ModelExport, val: LabelledRows, teacher: Path | None, refit: Refit
) -> None:
    """Compress a model as the recipe says, and note in its info what each step achieves.

    All processes prune and train; the first one writes and measures.

    Args:
        model: The model, as it was trained.
        val: The rows to measure on.
        teacher: The folder of the model that it learnt from, to measure beside it.
        refit: Trains the network on after pruning.
    """
    config = model.recipe.export
    is_first = distributed.rank() == 0
    steps: list[CompressionStep] = []
    if is_first:
        if teacher:
            steps.append(measure_teacher(teacher, val))
        steps.append(measure_model(model, "as trained", val))
    if config.prune:
        percent = f"{config.prune:.0%}"
        print(
            f"the smallest {percent} of the weights are set to zero; the others are trained for "
            "another epoch",
            flush=True,
        )
        prune_and_refit(model.adapter, config.prune, model.recipe.train, refit)
        model.write()
        if is_first:
            steps.append(measure_model(model, f"{percent} of the weights zero", val))
    if config.int8 and is_first:
        quantize_weights(model.folder.onnx)
        steps.append(measure_model(model, INT8_STEP, val))
    if is_first:
        model.note(export=steps)


def measure_model(model: ModelExport, name: str, rows: LabelledRows) -> CompressionStep:
    """Measure the model as it is now."""
    return measure_predictor(name, model.open(threads=1), model.folder, rows)


def measure_teacher(folder: Path, rows: LabelledRows) -> CompressionStep:
    """Measure the model that this one learnt from."""
    predictor = modalities.load_predictor(folder, 1)
    return measure_predictor("the teacher", predictor, ModelFolder(folder), rows)


def measure_predictor(
    name: str, predictor: Predictor, folder: ModelFolder, rows: LabelledRows
) -> CompressionStep:
    """Measure an exported model on rows: its metrics, and its size in bytes.

    The predictor has to use one thread: sums in another order round differently.
    """
    predictions = modalities.predict(predictor, rows.inputs)
    metrics = predictor.problem.measure(rows.targets, predictions)
    rounded = {metric: round(value, 6) for metric, value in metrics.items()}
    return CompressionStep(model=name, bytes=folder.onnx.stat().st_size, metrics=rounded)


def prune_and_refit(adapter: Trainer, fraction: float, config: Train, refit: Refit) -> None:
    """Set the smallest weights of each layer to zero, and train the others for another epoch.

    The method is that of Han et al. (2015).

    Args:
        adapter: The trainer with the network.
        fraction: How many of a layer's weights become zero.
        config: How the network was trained.
        refit: Trains the network on.
    """
    layers = [layer for layer in adapter.network.modules() if isinstance(layer, PRUNABLE_LAYERS)]
    for layer in layers:
        layer.weight.data = layer.weight.data.contiguous()  # as torch's pruning wants it
        masks.l1_unstructured(layer, "weight", fraction)  # type: ignore[no-untyped-call]
    # A masked layer's weight is computed, so no average of the weights can be a copy of it.
    rate = config.learning_rate * PRUNING_LR_FACTOR
    changes = {"epochs": 1, "learning_rate": rate, "ema_decay": 0.0}
    refit(config.model_copy(update=changes))
    for layer in layers:
        masks.remove(layer, "weight")  # type: ignore[no-untyped-call]


def quantize_weights(path: Path) -> None:
    """Turn the weights of an ONNX model into 8-bit integers, with a scale for each channel.

    A layer's inputs are quantised while it computes. Of the 8 bits 7 are used: on processors
    without VNNI sums of products would overflow, and predictions differ from those that were
    judged.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It asks for a preparation that only static quantisation needs.
    logging.disable(logging.WARNING)
    try:
        with files.atomic_file(path) as temporary:
            quantize_dynamic(
                path, temporary, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
            )
    finally:
        logging.disable(logging.NOTSET)
