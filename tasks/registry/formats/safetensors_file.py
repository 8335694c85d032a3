"""safetensors: a header of JSON, and tensors that fill the rest of the file without gaps."""

import json
import math
from typing import TypeVar

from pydantic import ConfigDict, JsonValue, NonNegativeInt, TypeAdapter, ValidationError

from tasks.contracts.base import Record
from tasks.registry.formats.content import FileContent, FormatError

LENGTH_BYTES = 8
MAX_CLAIMED_LENGTH = 1 << 40  # the first bytes of a text are a far larger number
MAX_HEADER_BYTES = 100_000_000  # as the library has it
METADATA = "__metadata__"
BITS = {  # of a number of each type
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
ParsedT = TypeVar("ParsedT")


class Tensor(Record):
    """A tensor as the header describes it: its type, shape, and where its bytes begin and end."""

    model_config = ConfigDict(strict=True, extra="forbid")

    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: list[NonNegativeInt]


TENSORS = TypeAdapter(dict[str, Tensor])
TEXTS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))


def is_claimed(content: FileContent) -> bool:
    """Return whether the file begins like safetensors: with a length, and an object of JSON."""
    has_object = content.head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{"
    return has_object and read_length(content) < MAX_CLAIMED_LENGTH


def check(content: FileContent) -> None:
    """Check the header against the file.

    Raises:
        FormatError: The file is damaged, or made so that readers differ about it.
    """
    length = read_length(content)
    data_bytes = content.size - LENGTH_BYTES - length
    if length > MAX_HEADER_BYTES or data_bytes < 0:
        raise FormatError(
            f"begins like safetensors, but its header would have {length:,} bytes, and the file "
            f"has {content.size:,}"
        )
    header = read_header(content, length)
    parse(TEXTS, header.pop(METADATA, {}), "its metadata are not texts")
    tensors = parse(TENSORS, header, "its header does not describe tensors")
    for name, tensor in tensors.items():
        check_size(name, tensor)
    check_places(tensors, data_bytes)


def read_length(content: FileContent) -> int:
    """Read how long the header is."""
    return int.from_bytes(content.head[:LENGTH_BYTES], "little")


def read_header(content: FileContent, length: int) -> dict[str, JsonValue]:
    """Read the header."""
    with content.open() as file:
        file.seek(LENGTH_BYTES)
        text = file.read(length)
    try:
        header: dict[str, JsonValue] = json.loads(text, object_pairs_hook=refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"begins like safetensors, but its header is no JSON: {error}") from None
    return header


def refuse_duplicates(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """Build an object whose keys are all different."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name occurs twice")
    return content


def parse(adapter: TypeAdapter[ParsedT], value: JsonValue, problem: str) -> ParsedT:
    """Parse a part of the header."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        place = ".".join(str(key) for key in error.errors()[0]["loc"])
        raise FormatError(f"is not valid safetensors: {problem} ({place})") from None


def check_size(name: str, tensor: Tensor) -> None:
    """Check that a tensor has as many bytes as its shape and type say."""
    if tensor.dtype not in BITS or len(tensor.data_offsets) != 2:
        raise FormatError(f"is not valid safetensors: {name!r} has an unknown type or no place")
    start, end = tensor.data_offsets
    if (end - start) * 8 != math.prod(tensor.shape) * BITS[tensor.dtype]:
        raise FormatError(
            f"is not valid safetensors: {name!r} has {end - start:,} bytes, which its shape "
            f"{tensor.shape} of {tensor.dtype} does not fill"
        )


def check_places(tensors: dict[str, Tensor], data_bytes: int) -> None:
    """Check that the tensors fill the data without gaps and overlaps."""
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        start, end = tensor.data_offsets
        if start != position:
            problem = "overlaps with the one before it" if start < position else "follows a gap"
            raise FormatError(f"is not valid safetensors: the tensor {name!r} {problem}")
        position = end
    if position != data_bytes:
        raise FormatError(
            f"is not valid safetensors: its tensors end at {position:,} of {data_bytes:,} bytes"
        )
