"""The bytes of a file, wherever they lie: unpacked, recognised by how they begin, and decoded."""

import codecs
import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from tasks.core import errors
from tasks.core.errors import StageError

COMPRESSION_BY_SUFFIX = {".gz": "gzip", ".zst": "zstd", ".tgz": "gzip"}
SAMPLE_BYTES = 1 << 20  # bytes from which an encoding is guessed
MIN_UNPACKED_LIMIT, MAX_UNPACKED_RATIO = 1 << 30, 100  # real tables shrink 3 to 20 times
MAGIC_NUMBERS = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"PAR1\x15": "parquet", b"ARROW1\0\0": "arrow", b"BZh91AY": "bzip2",
    b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"%PDF-": "PDF", b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"SQLite format 3": "SQLite",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
}  # fmt: skip
BINARY_FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".zip": "zip",
    ".tar": "tar",
}  # suffix → how such a file begins
HTML_PREFIXES = (b"<!doctype html", b"<html")


class FileContent(NamedTuple):
    """A file on the disk or a member of an archive, under the name that people know it by, which may be a URL."""

    name: str
    at: Path | bytes
    packed: str | None = None  # how it is compressed, where the name does not say so

    @property
    def compression(self) -> str | None:
        return self.packed or COMPRESSION_BY_SUFFIX.get(PurePosixPath(self.name).suffix.lower())

    @property
    def kind(self) -> str:
        """The suffix that says how the file is read, without that of its compression."""
        path = PurePosixPath(self.name.lower().replace(".tgz", ".tar.gz"))
        return (path.with_suffix("") if self.compression else path).suffix

    def raw(self) -> pa.NativeFile:
        return pa.OSFile(str(self.at)) if isinstance(self.at, Path) else pa.BufferReader(self.at)

    def opened(self) -> pa.NativeFile:
        return pa.input_stream(self.raw(), compression=self.compression)

    def read_beginning(self, size: int) -> bytes:
        """As it lies there, packed or not."""
        with self.raw() as stream:
            return bytes(stream.read(size))

    def read(self, size: int | None = None) -> bytes:
        with self.opened() as stream:
            return bytes(stream.read(size))

    def text(self, encoding: str) -> str:
        return self.read().decode(encoding).removeprefix("\ufeff")

    def limit(self) -> int:
        """How many bytes it may unpack to."""
        return max(
            MIN_UNPACKED_LIMIT,
            MAX_UNPACKED_RATIO
            * (self.at.stat().st_size if isinstance(self.at, Path) else len(self.at)),
        )


def format_file_name(name: str) -> str:
    """The name as text that can be written; bytes of it that are no text are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def check_content(file: FileContent) -> None:
    """Raise Failure where the file is empty, cut off, made to fill the disk, or something else than its name says."""
    if not (beginning := file.read_beginning(512)):
        raise StageError(f"{file.name} is empty (0 bytes): write the data there again.")
    check_kind(file, beginning, file.compression or BINARY_FORMATS.get(file.kind))
    if file.compression:
        check_compression(file)
        check_kind(file, file.read(512), BINARY_FORMATS.get(file.kind))


def check_kind(file: FileContent, beginning: bytes, expected: str | None) -> None:
    """Raise Failure where what begins like this is known and is something else."""
    found = next(
        (what for magic, what in MAGIC_NUMBERS.items() if beginning.startswith(magic)), None
    )
    if beginning[257:262] == b"ustar":
        found = "tar"
    if beginning.lstrip()[:20].lower().startswith(HTML_PREFIXES):
        found = "an HTML page"
    if found and found != expected:
        raise StageError(
            f"{file.name} is not what its name says: it begins like {found}. Give it the right suffix, or put the right file there."
        )


def check_compression(file: FileContent) -> None:
    """Read a compressed file once through."""
    size = 0
    with translate_read_errors(file, f"cut off or not {file.compression}"), file.opened() as stream:
        while chunk := stream.read(SAMPLE_BYTES):
            size += len(chunk)
            if size > file.limit():
                raise build_too_large_error(file)
    if not size:
        raise StageError(f"{file.name} holds an empty file: write the data there again.")


@contextlib.contextmanager
def translate_read_errors(file: FileContent, what: str) -> Iterator[None]:
    """Errors as a sentence: of a damaged file the libraries raise nearly every kind."""
    try:
        yield
    except (StageError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (
            None,
            errno.EINVAL,
        ):  # EINVAL: a place before the file's beginning
            raise
        raise StageError(
            f"{file.name} is {what} ({errors.first_line(error)}): copy it again."
        ) from None


def build_too_large_error(file: FileContent) -> StageError:
    large = f"{file.limit():,} bytes, and more than {MAX_UNPACKED_RATIO} times its size"
    return StageError(
        f"{file.name} expands to more than {large}: it is not read; unpack it by hand if it is genuine."
    )


def read_sample(file: FileContent) -> bytes:
    """The file's beginning, up to the end of its last whole line."""
    data = file.read(SAMPLE_BYTES)
    return data[: data.rfind(b"\n") + 1 or len(data)]


def resolve_encoding(file: FileContent, given: str) -> str:
    """The encoding to read it with, as given or guessed. Raises Failure for UTF-16 without its mark, which would pass as UTF-8 full of NUL characters."""
    data = read_sample(file)
    marked = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    even, odd = (data[half::2].count(0) for half in (0, 1))
    utf16 = (
        None
        if marked or odd == even or max(even, odd) <= 0.15 * len(data)
        else "utf-16-le"
        if odd > even
        else "utf-16-be"
    )
    if given == "auto":
        return utf16 or ("utf-16" if marked else guess_encoding(file, data))
    name = codecs.lookup(given).name  # one spelling
    if utf16 and name == "utf-8":
        raise StageError(
            f"{file.name} looks like UTF-16 without its byte order mark: set ingest.encoding: {utf16}."
        )
    return name


def guess_encoding(file: FileContent, data: bytes) -> str:
    """The encoding that the file's beginning most looks like. UTF-8 where it is valid, which other encodings almost never are by chance."""
    import charset_normalizer

    with contextlib.suppress(UnicodeDecodeError):
        data.decode("utf-8")
        return "utf-8"
    best = charset_normalizer.from_bytes(data).best()
    if best is None:
        raise StageError(
            f"{file.name}: its encoding cannot be told: set ingest.encoding, for example latin-1 or gb18030."
        )
    return best.encoding


def check_text(file: FileContent, encoding: str) -> None:
    """Raise Failure, with its line, for the first byte that is no text in this encoding."""
    decoder, lines, chunk = codecs.getincrementaldecoder(encoding)(), 1, b"-"
    with file.opened() as stream:
        while chunk:
            chunk = bytes(stream.read(SAMPLE_BYTES))
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                line = lines + error.object.count(b"\n", 0, error.start)
                advice = f"save the file as {encoding}, or set ingest.encoding, for example latin-1, or auto to have it guessed"
                raise StageError(
                    f"{file.name}, line {line}: byte 0x{error.object[error.start]:02x} is not {encoding} text: {advice}."
                ) from None
            lines += chunk.count(b"\n")
