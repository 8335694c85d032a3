"""safetensors: a header of JSON, and tensors that fill the rest of the file without gaps."""

import json
import math
from typing import Any

from tasks.registry.formats.content import FileContent, FormatError

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # as the library has it
METADATA = "__metadata__"
TENSOR_KEYS = {"dtype", "shape", "data_offsets"}
BITS = {  # of each number
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
}


def is_claimed(content: FileContent) -> bool:
    """Return whether the file begins like safetensors."""
    return content.head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and has_header_length(content)


def has_header_length(content: FileContent) -> bool:
    """Return whether the first number may be the header's length."""
    length = int.from_bytes(content.head[:LENGTH_BYTES], "little")
    return length < 1 << 40  # the bytes of a text are a far larger number


def check(content: FileContent) -> None:
    """Check the header against the file.

    Raises:
        FormatError: The file is damaged, or made so that readers differ about it.
    """
    header, data_bytes = read_header(content)
    spans = []
    for name, tensor in header.items():
        if name == METADATA:
            check_metadata(tensor)
        else:
            spans.append((*check_tensor(name, tensor), name))
    check_spans(sorted(spans), data_bytes)


def read_header(content: FileContent) -> tuple[dict[str, Any], int]:
    """Read the header; return it, and the number of bytes after it."""
    length = int.from_bytes(content.head[:LENGTH_BYTES], "little")
    data_bytes = content.size - LENGTH_BYTES - length
    if length > MAX_HEADER_BYTES or data_bytes < 0:
        raise FormatError(
            f"begins like safetensors, but its header would have {length:,} bytes, and the file "
            f"has {content.size:,}"
        )
    with content.open() as file:
        file.seek(LENGTH_BYTES)
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"begins like safetensors, but its header is not JSON ({error})"
        ) from None
    if not isinstance(header, dict):
        raise FormatError("begins like safetensors, but its header is not an object")
    return header, data_bytes


def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object whose keys are all different."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name occurs twice")
    return content


def check_metadata(metadata: Any) -> None:
    """Check that the metadata are texts."""
    is_text = isinstance(metadata, dict) and all(
        isinstance(value, str) for value in metadata.values()
    )
    if not is_text:
        raise FormatError("is not valid safetensors: its metadata are not texts")


def check_tensor(name: str, tensor: Any) -> tuple[int, int]:
    """Check the description of a tensor; return where its data begin and end."""
    if not isinstance(tensor, dict) or set(tensor) != TENSOR_KEYS:
        raise FormatError(f"is not valid safetensors: {name!r} is not described as a tensor")
    bits = BITS.get(tensor["dtype"]) if isinstance(tensor["dtype"], str) else None
    if bits is None:
        raise FormatError(f"is not valid safetensors: {name!r} has an unknown type")
    shape, offsets = tensor["shape"], tensor["data_offsets"]
    if not is_list_of_counts(shape) or not is_list_of_counts(offsets) or len(offsets) != 2:
        raise FormatError(f"is not valid safetensors: {name!r} has no shape or no place")
    start, end = offsets
    if (end - start) * 8 != math.prod(shape) * bits:
        raise FormatError(
            f"is not valid safetensors: {name!r} has {end - start:,} bytes, which its shape "
            f"{shape} does not fill"
        )
    return start, end


def is_list_of_counts(value: Any) -> bool:
    """Return whether a value is a list of whole numbers from 0 on."""
    return isinstance(value, list) and all(
        type(number) is int and 0 <= number < 1 << 63 for number in value
    )


def check_spans(spans: list[tuple[int, int, str]], data_bytes: int) -> None:
    """Check that tensors, sorted by their place, fill the data without gaps and overlaps."""
    position = 0
    for start, end, name in spans:
        if start != position:
            problem = "overlaps with the one before it" if start < position else "follows a gap"
            raise FormatError(f"is not valid safetensors: the tensor {name!r} {problem}")
        position = end
    if position != data_bytes:
        raise FormatError(
            f"is not valid safetensors: its tensors end at {position:,} of {data_bytes:,} bytes"
        )
