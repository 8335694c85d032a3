"""Onnx."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.storage import files

if TYPE_CHECKING:
    import torch


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise StageError(
            f"{path} cannot be loaded as an ONNX model ({errors.first_line(error)}): train again, or fetch it again."
        ) from None


def export_network(
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
    with files.atomic_file(path) as temporary, warnings.catch_warnings():
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
