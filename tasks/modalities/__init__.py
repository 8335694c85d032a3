"""Modalities: how one kind of data becomes batches, a network, an exported file and answers.

Training, evaluation and serving go through the same adapter, so they cannot disagree about preprocessing. A new modality is one module
with these two classes and one line in CONTENT of the recipe.
"""

import importlib
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks import files
from tasks.problems import Floats, Problem, Targets
from tasks.recipe import CONTENT
from tasks.step import Failure

if TYPE_CHECKING:
    import torch

    from tasks.recipe import Recipe, Train

PLACE = re.compile(r"\{(\w+)\}")  # of a column in a prompt


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
        return batches(len(examples), epoch, self.section)

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


def module(modality: str) -> Any:
    return importlib.import_module(f"tasks.modalities.{modality}")


def rows(recipe: "Recipe", table: pa.Table, gaps: bool = False) -> list[Any]:
    """The model's input for each row: the text, the bytes of the image, a mapping from column to cell, or a prompt with the text that is to follow.

    Only with `gaps` may a text or image lack.
    """
    column, prompt = CONTENT[recipe.modality], recipe.columns.prompt
    if column and table[column].null_count and not gaps:
        empty = table.filter(pc.is_null(table[column]))["id"].to_pylist()
        raise Failure(
            f"{len(empty)} row(s), such as {', '.join(map(str, empty[:5]))}, have no {column}: fill them in, or have a rule of clean reject them."
        )
    if column and prompt is not None:
        found = cells(table, [*dict.fromkeys(PLACE.findall(prompt)), column], "columns.prompt")
        return [
            {
                "prompt": PLACE.sub(lambda name, row=row: str(row[name[1]] or ""), prompt),
                "text": row[column],
            }
            for row in found
        ]  # type: ignore[misc]
    if column:
        return list(table[column].to_pylist())
    return cells(
        table,
        recipe.columns.features or [name for name in table.column_names if name not in files.ROLES],
        "columns.features",
    )


def cells(table: pa.Table, names: list[str], key: str) -> list[dict[str, Any]]:
    for name in names:
        files.column(table, name, key)
    return list(table.select(names).to_pylist())


def batches(count: int, epoch: int | None, section: "Train") -> list[list[int]]:
    """Indices of examples of one size in batches, shuffled as a pure function of (seed, epoch); in reading order where epoch is None."""
    order = list(range(count))
    if epoch is not None:
        random.Random(f"{section.seed}-{epoch}").shuffle(order)  # noqa: S311  not for secrets
    return [
        order[start : start + section.batch_size] for start in range(0, count, section.batch_size)
    ]


def trainer(recipe: "Recipe", rows: Sequence[Any], problem: Problem) -> Trainer:
    """The adapter and its network, for these rows to train on."""
    made: Trainer = module(recipe.modality).Trainer(recipe.train, rows, problem)
    if recipe.train.lora:
        from tasks.modalities import lora

        lora.add(made.network, recipe.train.lora, recipe.train.seed)
    return made


def predictor(folder: Path, threads: int = 2) -> Predictor:
    """The exported model in `folder`. Raises Failure where a file is missing or names an unknown modality."""
    about = files.read_json(folder / "model.json")
    if about.get("modality") not in CONTENT:
        raise Failure(
            f"{folder / 'model.json'}: modality {about.get('modality')!r} is not one of {', '.join(CONTENT)}: the model is from another version."
        )
    made: Predictor = module(about["modality"]).Predictor(folder, about, threads)
    return made


def predict(predictor: Predictor, rows: Sequence[Any]) -> Floats:
    """Answers of shape (rows, width), refused where they are none."""
    answers = predictor(rows)
    bad = np.flatnonzero(~predictor.problem.sound(answers))
    if len(bad):
        raise Failure(
            f"the model gives no probabilities or numbers for {len(bad)} of {len(rows)} test rows, first row {bad[0]}: it is broken; train again."
        )
    return answers


def session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise Failure(
            f"{path} cannot be loaded as an ONNX model ({files.first_line(error)}): train again, or fetch it again."
        ) from None


def export_onnx(
    network: "torch.nn.Module",
    inputs: tuple["torch.Tensor", ...],
    names: list[str],
    dynamic: tuple[Any, ...],
    path: Path,
    outputs: Sequence[str] = ("logits",),
) -> None:
    """Write the network as ONNX with equal bytes for equal weights: the exporter's notes on source files and stack frames are taken out."""
    import logging
    import warnings

    import onnx
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with files.whole(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=names,
            output_names=list(outputs),
            verbose=False,
        )
        assert program is not None
        proto = program.model_proto
        graphs = [proto.graph, *proto.functions]
        described = [*graphs, *(node for graph in graphs for node in graph.node)]
        for part in described:
            part.doc_string = ""
        for part in [
            proto,
            *described,
            *proto.graph.value_info,
            *proto.graph.input,
            *proto.graph.output,
            *proto.graph.initializer,
        ]:
            del part.metadata_props[:]
        onnx.save(proto, str(temporary))
