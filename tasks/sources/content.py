"""The bytes of a file, wherever they lie: unpacked, recognised by how they begin, and decoded."""

import codecs
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa

from tasks import files
from tasks.step import Failure

COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".tgz": "gzip"}
SAMPLE = 1 << 20  # bytes from which an encoding is guessed
BOMB_BYTES, BOMB_RATIO = 1 << 30, 100  # real tables shrink 3 to 20 times
MAGIC = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"PAR1\x15": "parquet", b"ARROW1\0\0": "arrow", b"BZh91AY": "bzip2",
    b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"%PDF-": "PDF", b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"SQLite format 3": "SQLite",
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file",
}  # fmt: skip
BINARY = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".zip": "zip", ".tar": "tar"}  # suffix → how such a file begins
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
HTML = (b"<!doctype html", b"<html")


@dataclass(frozen=True)
class Content:
    """A file on the disk or a member of an archive, under the name that people know it by, which may be a URL."""

    name: str
    at: Path | bytes

    @property
    def compression(self) -> str | None:
        return COMPRESSION.get(PurePosixPath(self.name).suffix.lower())

    @property
    def kind(self) -> str:
        """The suffix that says how the file is read, without that of its compression."""
        path = PurePosixPath(self.name)
        return (path.with_suffix("") if self.compression else path).suffix.lower()

    def raw(self) -> pa.NativeFile:
        return pa.OSFile(str(self.at)) if isinstance(self.at, Path) else pa.BufferReader(self.at)

    def opened(self) -> pa.NativeFile:
        return pa.input_stream(self.raw(), compression=self.compression)

    def read(self) -> bytes:
        with self.opened() as stream:
            return bytes(stream.read())

    def begins(self, size: int) -> bytes:
        with self.opened() as stream:
            return bytes(stream.read(size))

    def limit(self) -> int:
        """How many bytes it may unpack to."""
        size = self.at.stat().st_size if isinstance(self.at, Path) else len(self.at)
        return max(BOMB_BYTES, BOMB_RATIO * size)


def shown(path: Path) -> str:
    """The path as text that can be written; bytes of its name that are no text are replaced."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def recognised(data: bytes) -> str | None:
    """What a file with this beginning is, whatever its name says; None for text and what is not known."""
    if data[257:262] == b"ustar":
        return "tar"
    if data.lstrip()[:20].lower().startswith(HTML):
        return "an HTML page"
    return next((what for magic, what in MAGIC.items() if data.startswith(magic)), None)


def check(file: Content) -> None:
    """Raise Failure where the file is empty, cut off, made to fill the disk, or something else than its name says."""
    check_beginning(file)
    if file.compression:
        check_compression(file)
        refuse_other(file, recognised(file.begins(512)), BINARY.get(file.kind))


def check_beginning(file: Content) -> None:
    with file.raw() as stream:
        beginning = bytes(stream.read(512))
    if not beginning:
        raise Failure(f"{file.name} is empty (0 bytes): write the data there again.")
    refuse_other(file, recognised(beginning), file.compression or BINARY.get(file.kind))


def refuse_other(file: Content, found: str | None, expected: str | None) -> None:
    if found and found != expected:
        raise Failure(f"{file.name} is not what its name says: it begins like {found}. Give it the right suffix, or put the right file there.")


def check_compression(file: Content) -> None:
    """Read a compressed file once through."""
    size, limit = 0, file.limit()
    try:
        with file.opened() as stream:
            while chunk := stream.read(SAMPLE):
                size += len(chunk)
                if size > limit:
                    raise too_large(file, limit)
    except (OSError, EOFError) as error:
        raise Failure(f"{file.name} is cut off or not {file.compression} ({files.first_line(error)}): copy it again.") from None
    if not size:
        raise Failure(f"{file.name} holds an empty file: write the data there again.")


def too_large(file: Content, limit: int) -> Failure:
    return Failure(
        f"{file.name} expands to more than {limit:,} bytes, and more than {BOMB_RATIO} times its size: it is not read; unpack it by hand if it is genuine."
    )


def sample(file: Content) -> bytes:
    """The file's beginning, up to the end of its last whole line."""
    data = file.begins(SAMPLE)
    return data[: data.rfind(b"\n") + 1 or len(data)]


def encoding(file: Content, given: str) -> str:
    """The encoding to read it with. Raises Failure for UTF-16 without its mark, which would pass as UTF-8 full of NUL characters."""
    data = sample(file)
    found = utf16(data)
    if given != "auto" and codecs.lookup(given).name == "utf-8":
        given = "utf-8"  # one spelling
    if found and given == "utf-8":
        raise Failure(f"{file.name} looks like UTF-16 without its byte order mark: set ingest.encoding: {found}.")
    return given if given != "auto" else found or guessed(file, data)


def utf16(data: bytes) -> str | None:
    even, odd = data[0::2], data[1::2]
    if data[:2] in UTF16_MARKS or len(data) < 4:
        return None
    if odd.count(0) > 0.3 * len(odd) > even.count(0):
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > 0.3 * len(even) > odd.count(0) else None


def guessed(file: Content, data: bytes) -> str:
    """The encoding that the file's beginning most looks like. UTF-8 where it is valid, which other encodings almost never are by chance."""
    import charset_normalizer

    if data[:2] in UTF16_MARKS:
        return "utf-16"
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        best = charset_normalizer.from_bytes(data).best()
    if best is None:
        raise Failure(f"{file.name}: its encoding cannot be told: set ingest.encoding, for example latin-1 or gb18030.")
    return best.encoding


def check_utf8(file: Content, encoding: str) -> None:
    """Raise Failure where the file is not the UTF-8 that it should be: Arrow prints a traceback when a row that it reports is not."""
    if encoding == "utf-8":
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            with file.opened() as stream:
                while chunk := stream.read(SAMPLE):
                    decoder.decode(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            unread = undecodable(file, encoding)
            assert unread
            raise unread from None


def undecodable(file: Content, encoding: str) -> Failure | None:
    """A sentence that names the line of the first byte that is not text in this encoding, if there is one."""
    data = file.read()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Failure(
            f"{file.name}, line {line}: byte 0x{data[error.start]:02x} is not {encoding} text: save the file as {encoding}, "
            "or set ingest.encoding, for example latin-1, or auto to have it guessed."
        )
    return None
