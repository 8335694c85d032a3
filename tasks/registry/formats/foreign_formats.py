"""Formats that no version may have, so that a refusal can name them."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable

from tasks.registry.formats import pickles
from tasks.registry.formats.content import FileContent

PEEK_BYTES = 1 << 16
RUNS_CODE = "which may run any code when it is read"
# What files begin with.
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file, as Keras writes it, {RUNS_CODE}"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
    (b"Rar!", "is a RAR archive"),
    (b"\x7fELF", "is a program"),
    (b"MZ", "is a program"),
    (b"\xcf\xfa\xed\xfe", "is a program"),
    (b"\xca\xfe\xba\xbe", "is a program"),
    (b"SQLite format 3\x00", "is an SQLite database"),
    (b"%PDF", "is a PDF document"),
    (b"\x89PNG", "is an image"),
    (b"\xff\xd8\xff", "is an image"),
    (b"GGUF", "is a GGUF model"),
    (b"ARROW1", "is an Arrow file"),
    (b"\x1c\x00\x00\x00TFL3", "is a TensorFlow Lite model"),
    (b"MATLAB", "is a MATLAB file"),
)
COMPRESSIONS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", lambda data: gzip.GzipFile(fileobj=io.BytesIO(data)).read(PEEK_BYTES)),
    (b"BZh", "bzip2", lambda data: bz2.BZ2Decompressor().decompress(data, PEEK_BYTES)),
    (b"\xfd7zXZ", "xz", lambda data: lzma.LZMADecompressor().decompress(data, PEEK_BYTES)),
    (b"\x5d\x00\x00", "lzma", lambda data: lzma.LZMADecompressor().decompress(data, PEEK_BYTES)),
    (b"\x78", "zlib", lambda data: zlib.decompressobj().decompress(data, PEEK_BYTES)),
)
NUMPY = b"\x93NUMPY"
TAR_OFFSET = 257
TAR = b"ustar"
HDF5_OFFSETS = (512, 1024, 2048)  # HDF5 may begin later


def describe(content: FileContent) -> str | None:
    """Describe a file of a format that no version may have; None if it is of none known here."""
    head = content.head
    for signature, description in SIGNATURES:
        if head.startswith(signature):
            return description
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return describe_zip(content)
    if head.startswith(NUMPY):
        return describe_numpy(head)
    if head[TAR_OFFSET : TAR_OFFSET + len(TAR)] == TAR:
        return f"is a tar archive, as old versions of torch write it, {RUNS_CODE}"
    if any(head[offset:].startswith(SIGNATURES[0][0]) for offset in HDF5_OFFSETS):
        return SIGNATURES[0][1]
    return describe_compressed(content)


def describe_zip(content: FileContent) -> str:
    """Describe a zip archive by what is in it."""
    try:
        with zipfile.ZipFile(content.path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return (
            f"is a zip archive with a pickle in it (data.pkl), as torch.save writes it, {RUNS_CODE}"
        )
    if any(name.endswith((".pkl", ".pickle")) for name in names):
        return f"is a zip archive with a pickle in it, {RUNS_CODE}"
    if any(name.endswith(".npy") for name in names):
        return f"is a zip archive of NumPy arrays, {RUNS_CODE} if one of them is of objects"
    return "is a zip archive"


def describe_numpy(head: bytes) -> str:
    """Describe a NumPy array by its type."""
    header = head[:PEEK_BYTES].split(b"\n", 1)[0]
    if b"|O" in header or b"'O'" in header:
        return f"is a NumPy array of objects, which are pickled, {RUNS_CODE}"
    return "is a NumPy array"


def describe_compressed(content: FileContent) -> str | None:
    """Describe a compressed file; None if it is not compressed."""
    for signature, name, decompress in COMPRESSIONS:
        if not content.head.startswith(signature):
            continue
        try:
            inside = decompress(content.head)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
            inside = b""
        protocol = pickles.find_protocol(io.BytesIO(inside))
        protocol = pickles.begins_like_pickle(inside) if protocol is None else protocol
        if protocol is not None:
            return f"is compressed with {name}, and inside it {pickles.describe(protocol)}"
        if inside or signature not in (b"\x78", b"\x5d\x00\x00"):
            return f"is compressed with {name}"
    return None
