"""Export of networks to ONNX with reproducible bytes, and sessions that run them."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.storage import files

if TYPE_CHECKING:
    import onnx
    import torch

Session = Any  # onnxruntime.InferenceSession; onnxruntime is imported when a model is opened
DynamicShape = dict[int, Any]  # axis → torch.export.Dim
LOG_ERRORS_ONLY = 3  # of onnxruntime's levels


@dataclass(frozen=True)
class ExportedInput:
    """An input of an exported network: its name, an example, and the axes that vary."""

    name: str
    example: "torch.Tensor"
    dynamic_axes: DynamicShape


# What onnxruntime says of an operator that it does not know.
UNKNOWN_OPERATOR = ("is not a registered function/op", "No Op registered", "NOT_IMPLEMENTED")


def open_session(path: Path, threads: int) -> Session:
    """Open an ONNX file on the CPU.

    Raises:
        StageError: The file is missing or damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = LOG_ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise describe_load_error(path, error) from None


def describe_load_error(path: Path, error: Exception) -> StageError:
    """Return the sentence for an ONNX file that the runtime does not load."""
    reason = errors.first_line(error)
    if any(text in str(error) for text in UNKNOWN_OPERATOR):
        return StageError(
            f"The runtime lacks an operator of {path} ({reason}): train again with this Millrace, "
            "or serve the model with the onnxruntime that it was made with."
        )
    return StageError(
        f"{path} cannot be loaded as an ONNX model ({reason}): train again, or fetch it again."
    )


def export_network(
    network: "torch.nn.Module",
    inputs: Sequence[ExportedInput],
    path: Path,
    outputs: Sequence[str] = ("logits",),
) -> None:
    """Write the network as ONNX; equal weights give equal bytes."""
    import onnx
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with files.atomic_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            tuple(network_input.example for network_input in inputs),
            dynamo=True,
            dynamic_shapes=tuple(network_input.dynamic_axes for network_input in inputs),
            input_names=[network_input.name for network_input in inputs],
            output_names=list(outputs),
            verbose=False,
        )
        assert program is not None
        model = program.model_proto  # each access builds a new one
        remove_source_notes(model)
        onnx.save(model, str(temporary))


def remove_source_notes(model: "onnx.ModelProto") -> None:
    """Remove the exporter's notes on source files and stack frames, which differ between runs."""
    documented = list(iterate_documented(model))
    for part in documented:
        part.doc_string = ""
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for part in [model, *documented, *values]:
        del part.metadata_props[:]


def iterate_documented(model: "onnx.ModelProto") -> Iterator[Any]:
    """Yield the graph, the functions, and the nodes of each."""
    for graph in (model.graph, *model.functions):
        yield graph
        yield from graph.node
