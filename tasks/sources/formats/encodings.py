"""Encodings: which one a file of text has, and where it does not keep to it."""

import codecs
import contextlib

from tasks.core.errors import StageError
from tasks.sources.formats.file_content import FileContent

SAMPLE_BYTES = 1 << 20  # from which an encoding or a layout is guessed
CHUNK_BYTES = 1 << 20  # decoded at once
MIN_NUL_FRACTION = 0.15  # of the bytes of a text in UTF-16, in nearly every language


def read_sample(file: FileContent) -> bytes:
    """Read a file's beginning, up to the end of its last whole line."""
    data = file.read(SAMPLE_BYTES)
    return data[: data.rfind(b"\n") + 1 or len(data)]


def resolve_encoding(file: FileContent, name: str) -> str:
    """Return the encoding to read a file with.

    Args:
        file: A file of text.
        name: An encoding that Python knows, or `auto` to have it guessed.

    Raises:
        StageError: The file is UTF-16 without its mark, which would pass as UTF-8 full of NUL
            characters, or nothing can be guessed.
    """
    data = read_sample(file)
    has_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    unmarked_utf16 = None if has_mark else detect_utf16(data)
    if name == "auto":
        if has_mark:
            return "utf-16"
        return unmarked_utf16 or guess_encoding(file, data)
    canonical_name = codecs.lookup(name).name
    if unmarked_utf16 and canonical_name == "utf-8":
        raise StageError(
            f"{file.name} looks like UTF-16 without its byte order mark: set ingest.encoding: "
            f"{unmarked_utf16}."
        )
    return canonical_name


def detect_utf16(data: bytes) -> str | None:
    """Return the byte order of UTF-16 if every other byte tends to be NUL."""
    n_even = data[0::2].count(0)
    n_odd = data[1::2].count(0)
    if n_odd == n_even or max(n_even, n_odd) <= MIN_NUL_FRACTION * len(data):
        return None
    return "utf-16-le" if n_odd > n_even else "utf-16-be"


def guess_encoding(file: FileContent, data: bytes) -> str:
    """Return the encoding that the file's beginning most looks like.

    It is UTF-8 if that is valid, which other encodings almost never are by chance.
    """
    import charset_normalizer

    with contextlib.suppress(UnicodeDecodeError):
        data.decode("utf-8")
        return "utf-8"
    best = charset_normalizer.from_bytes(data).best()
    if best is None:
        raise StageError(
            f"{file.name}: its encoding cannot be guessed: set ingest.encoding, for example "
            "latin-1 or gb18030."
        )
    return best.encoding


def check_text(file: FileContent, encoding: str) -> None:
    """Refuse a file with a byte that is not text in this encoding, and name its line."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    is_end = False
    with file.open_unpacked() as stream:
        while not is_end:
            chunk = bytes(stream.read(CHUNK_BYTES))
            is_end = not chunk
            try:
                decoder.decode(chunk, final=is_end)
            except UnicodeDecodeError as error:
                line += error.object.count(b"\n", 0, error.start)
                raise StageError(describe_wrong_byte(file.name, line, error, encoding)) from None
            line += chunk.count(b"\n")


def describe_wrong_byte(name: str, line: int, error: UnicodeDecodeError, encoding: str) -> str:
    """Describe a byte that is not text."""
    return (
        f"{name}, line {line}: byte 0x{error.object[error.start]:02x} is not {encoding} text: "
        f"save the file as {encoding}, or set ingest.encoding, for example latin-1, or auto to "
        "have it guessed."
    )
