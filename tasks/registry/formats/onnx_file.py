"""ONNX: operators that onnxruntime has itself, and weights from files of the version alone."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from tasks.registry.formats.content import FileContent, FormatError

FIRST_TAG = b"\x08"  # of the field ir_version, which comes first
MAX_BYTES = 1 << 31  # of a protobuf message
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# Operators of com.microsoft that call Python.
CALLING_PYTHON = frozenset({"PythonOp", "PythonOpGrad"})

# Types of onnx, which takes a while to import.
Message = Any
Model = Message
Graph = Message
Node = Message
Tensor = Message


def is_claimed(content: FileContent) -> bool:
    """Return whether the file begins like an ONNX model."""
    return content.head.startswith(FIRST_TAG)


def check(content: FileContent, sizes: Mapping[str, int]) -> set[str]:
    """Check the operators of a model, and where its weights are.

    Args:
        content: The model.
        sizes: The size of each file that the version lists.

    Returns:
        The files with its external data.

    Raises:
        FormatError: It is no model, or one that no version may have.
    """
    model = read_model(content)
    check_operators(model)
    folder = PurePosixPath(content.name).parent
    data_files = set()
    for tensor in iterate_tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            data_files.add(check_external_data(tensor, folder, sizes))
    return data_files


def read_model(content: FileContent) -> Model:
    """Read the model without its external data."""
    import onnx

    if content.size >= MAX_BYTES:
        raise FormatError("begins like ONNX and has more bytes than a protobuf message may have")
    try:
        model = onnx.load_model(content.path, "protobuf", load_external_data=False)
    except Exception:  # protobuf's error, whose class lies in another package
        raise FormatError("begins like ONNX and is not valid protobuf") from None
    is_model = model.ir_version > 0 and model.opset_import and model.graph.node
    if not is_model:
        raise FormatError("begins like ONNX and has no graph of operators")
    return model


def check_operators(model: Model) -> None:
    """Check that each operator is one of onnxruntime, or a function that the model has itself."""
    functions = {(function.domain, function.name) for function in model.functions}
    for node in iterate_nodes(model):
        is_own = (node.domain, node.op_type) in functions
        if not is_own and not is_built_in(node):
            raise FormatError(
                f"uses the operator {node.op_type} of the domain {node.domain}, which needs code "
                "that onnxruntime does not have itself"
            )


def is_built_in(node: Node) -> bool:
    """Return whether onnxruntime has the node's operator, and it calls nothing else."""
    return node.domain in DOMAINS and node.op_type not in CALLING_PYTHON


def check_external_data(tensor: Tensor, folder: PurePosixPath, sizes: Mapping[str, int]) -> str:
    """Check where a tensor's data are; return the file's name in the version."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    name = str(folder / location)
    is_plain = location and ".." not in PurePosixPath(location).parts and "\\" not in location
    if not is_plain or name not in sizes:
        raise FormatError(
            f"reads the weights {tensor.name!r} from {location!r}, which the version does not list"
        )
    try:
        start = int(entries.get("offset", "0"))
        length = int(entries.get("length", "0"))
    except ValueError:
        start = length = -1
    if min(start, length) < 0 or start + length > sizes[name]:
        raise FormatError(f"reads the weights {tensor.name!r} from beyond the end of {location!r}")
    return name


def iterate_graphs(model: Model) -> Iterator[Graph]:
    """Yield the graph, those inside of its nodes, and functions, whose nodes are like a graph's."""
    remaining: list[Graph] = [model.graph, *model.functions]
    for training in model.training_info:
        remaining += [training.initialization, training.algorithm]
    while remaining:
        graph = remaining.pop()
        yield graph
        for attribute in iterate_attributes(graph):
            remaining += attribute.graphs
            if attribute.HasField("g"):
                remaining.append(attribute.g)


def iterate_nodes(model: Model) -> Iterator[Node]:
    """Yield all nodes."""
    for graph in iterate_graphs(model):
        yield from graph.node


def iterate_attributes(graph: Graph) -> Iterator[Message]:
    """Yield the attributes of a graph's nodes, and the defaults of a function's."""
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())


def iterate_tensors(model: Model) -> Iterator[Tensor]:
    """Yield all tensors: the weights, and those in attributes."""
    for graph in iterate_graphs(model):
        yield from getattr(graph, "initializer", ())
        sparse = list(getattr(graph, "sparse_initializer", ()))
        for attribute in iterate_attributes(graph):
            yield attribute.t
            yield from attribute.tensors
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices
