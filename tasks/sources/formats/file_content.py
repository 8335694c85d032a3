"""The bytes of a file, wherever they lie: unpacked, and recognised by how they begin."""

import contextlib
import errno
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from tasks.core import errors
from tasks.core.errors import StageError

COMPRESSION_BY_SUFFIX = {".gz": "gzip", ".zst": "zstd", ".tgz": "gzip"}
BINARY_FORMATS = {  # by suffix, the format that such a file begins like
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".zip": "zip",
    ".tar": "tar",
}
# A table of our own, since puremagic 1.30 knows neither Parquet nor Arrow.
FORMAT_BY_MAGIC_NUMBER = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PAR1\x15": "parquet",
    b"ARROW1\0\0": "arrow",
    b"BZh91AY": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"%PDF-": "PDF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"SQLite format 3": "SQLite",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
}
TAR_MAGIC = b"ustar"
TAR_MAGIC_OFFSET = 257
HTML_PREFIXES = (b"<!doctype html", b"<html")
BEGINNING_BYTES = 512  # enough for every magic number
CHUNK_BYTES = 1 << 20  # read at once
MIN_UNPACKED_LIMIT = 1 << 30  # bytes
MAX_UNPACKED_RATIO = 100  # real tables shrink 3 to 20 times


class FileContent(NamedTuple):
    """A file on the disk, or the bytes of a member of an archive.

    Its name is the one that people know it by, which may be a URL.
    """

    name: str
    location: Path | bytes
    known_compression: str | None = None  # if the name does not say it

    @property
    def compression(self) -> str | None:
        """How the content is compressed."""
        by_name = COMPRESSION_BY_SUFFIX.get(PurePosixPath(self.name).suffix.lower())
        return self.known_compression or by_name

    @property
    def suffix(self) -> str:
        """The suffix that says how the file is read, without that of its compression."""
        path = PurePosixPath(self.name.lower().replace(".tgz", ".tar.gz"))
        return path.with_suffix("").suffix if self.compression else path.suffix

    @property
    def stored_bytes(self) -> int:
        """The size of the content as it is stored, compressed or not."""
        if isinstance(self.location, Path):
            return self.location.stat().st_size
        return len(self.location)

    @property
    def unpacked_limit(self) -> int:
        """The most bytes that the content may expand to."""
        return max(MIN_UNPACKED_LIMIT, MAX_UNPACKED_RATIO * self.stored_bytes)

    def open_stored(self) -> pa.NativeFile:
        """Open the content as it is stored, compressed or not."""
        if isinstance(self.location, Path):
            return pa.OSFile(str(self.location))
        return pa.BufferReader(self.location)

    def open_unpacked(self) -> pa.NativeFile:
        """Open the content as a stream without compression."""
        return pa.input_stream(self.open_stored(), compression=self.compression)

    def read_beginning(self, size: int = BEGINNING_BYTES) -> bytes:
        """Read the first bytes as they are stored, compressed or not."""
        with self.open_stored() as stream:
            return bytes(stream.read(size))

    def read(self, size: int | None = None) -> bytes:
        """Read the unpacked content, or its first `size` bytes."""
        with self.open_unpacked() as stream:
            return bytes(stream.read(size))

    def read_text(self, encoding: str) -> str:
        """Read the content as text without a byte order mark."""
        return self.read().decode(encoding).removeprefix("\ufeff")


def format_file_name(name: str) -> str:
    """Return a name as text that can be written, with other bytes replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_content(file: FileContent) -> None:
    """Refuse a file that cannot be what its name says.

    Raises:
        StageError: The file is empty, cut off, made to fill the disk, or of another format.
    """
    beginning = file.read_beginning()
    if not beginning:
        raise StageError(f"{file.name} is empty (0 bytes): write the data there again.")
    expected = BINARY_FORMATS.get(file.suffix)
    check_format(file, beginning, file.compression or expected)
    if file.compression:
        check_compression(file)
        check_format(file, file.read(BEGINNING_BYTES), expected)


def check_format(file: FileContent, beginning: bytes, expected: str | None) -> None:
    """Refuse content that begins like a known format other than the expected one."""
    actual = detect_format(beginning)
    if actual and actual != expected:
        raise StageError(
            f"{file.name} is not what its name says: it begins like {actual}. Give it the right "
            "suffix, or put the right file there."
        )


def detect_format(beginning: bytes) -> str | None:
    """Return the known format that content begins like."""
    if beginning.lstrip()[:20].lower().startswith(HTML_PREFIXES):
        return "an HTML page"
    if beginning[TAR_MAGIC_OFFSET:].startswith(TAR_MAGIC):
        return "tar"
    for magic_number, name in FORMAT_BY_MAGIC_NUMBER.items():
        if beginning.startswith(magic_number):
            return name
    return None


def check_compression(file: FileContent) -> None:
    """Read a compressed file once through, to see that it is whole and not too large."""
    size = 0
    problem = f"cut off or not {file.compression}"
    with translate_read_errors(file, problem), file.open_unpacked() as stream:
        for chunk in iter(partial(stream.read, CHUNK_BYTES), b""):
            size += len(chunk)
            if size > file.unpacked_limit:
                raise build_too_large_error(file)
    if not size:
        raise StageError(f"{file.name} holds an empty file: write the data there again.")


@contextlib.contextmanager
def translate_read_errors(file: FileContent, problem: str) -> Iterator[None]:
    """Turn errors of reading into a sentence.

    The libraries raise nearly every kind of error for a damaged file.
    """
    try:
        yield
    except (StageError, MemoryError):
        raise
    except Exception as error:
        # EINVAL means that a damaged file names a position before its beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise StageError(
            f"{file.name} is {problem} ({errors.first_line(error)}): copy it again."
        ) from None


def build_too_large_error(file: FileContent) -> StageError:
    """Return the error for a file that expands to too many bytes."""
    return StageError(
        f"{file.name} expands to more than {file.unpacked_limit:,} bytes, and more than "
        f"{MAX_UNPACKED_RATIO} times its size: it is not read; unpack it by hand if it is genuine."
    )
