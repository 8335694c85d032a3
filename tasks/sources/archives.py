"""Archives: the members of a zip or tar file one after the other, in memory; nothing of them is ever written to the disk."""

import contextlib
import errno
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tasks import files
from tasks.sources.content import SAMPLE, Content, check_beginning, too_large
from tasks.step import Failure

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def members(file: Content, wanted: Callable[[Content], bool], skip: Container[str] = ()) -> Iterator[Content]:
    """The wanted members, in the archive's own order. Raises Failure for an archive that is damaged, too large, or means harm."""
    seen: set[str] = set()
    for name, data in (of_zip if file.name.lower().endswith(".zip") else of_tar)(file, wanted, skip):
        if name in seen:
            raise Failure(f"{file.name} holds {name} twice: pack it again with one of them.")
        seen.add(name)
        if data is not None:
            yield Content(f"{file.name}/{name}", data)
    if not seen:
        raise Failure(f"{file.name} holds no file that is read: pack CSV, JSON lines, Parquet or text files into it.")


def of_zip(file: Content, wanted: Callable[[Content], bool], skip: Container[str]) -> Iterator[tuple[str, bytes | None]]:
    check_beginning(file)
    assert isinstance(file.at, Path)
    with damage(file), zipfile.ZipFile(file.at) as archive:
        listed = archive.infolist()
        if sum(info.file_size for info in listed) > file.limit():
            raise too_large(file, file.limit())
        chosen = [
            info
            for info in listed
            if accepted(file, info.orig_filename, info.is_dir(), regular=stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG), wanted=wanted)
        ]
        for info in chosen:
            if info.flag_bits & 1:
                raise Failure(f"{file.name}: {info.filename} is encrypted: pack the archive again without a password.")
            if f"{file.name}/{info.filename}" in skip:
                yield info.filename, None
                continue
            with archive.open(info) as stream:  # piece by piece, which stops at the size that was declared
                yield info.filename, b"".join(iter(lambda: stream.read(SAMPLE), b""))


def of_tar(file: Content, wanted: Callable[[Content], bool], skip: Container[str]) -> Iterator[tuple[str, bytes | None]]:
    """Read as a stream, so that no more is unpacked than is looked at. An archive without its end mark was cut off."""
    check_beginning(file)
    with damage(file), file.opened() as stream:
        limited: Any = Limited(stream, file)
        with tarfile.open(fileobj=limited, mode="r|") as archive:
            for info in archive:
                name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                if accepted(file, name, info.isdir(), regular=info.isfile(), wanted=wanted):
                    extracted = archive.extractfile(info)
                    assert extracted
                    yield name, None if f"{file.name}/{name}" in skip else extracted.read()
            if archive.fileobj.tell() == archive.offset:  # type: ignore[union-attr]
                raise tarfile.ReadError("the end of the archive is missing")
        while limited.read(SAMPLE):  # to the checksum at the end
            pass


class Limited:
    """A stream that refuses to unpack to more than the file's limit."""

    def __init__(self, stream: Any, file: Content) -> None:
        self.stream, self.file, self.left = stream, file, file.limit()

    def read(self, size: int) -> bytes:
        data = bytes(self.stream.read(size))
        self.left -= len(data)
        if self.left < 0:
            raise too_large(self.file, self.file.limit())
        return data


def accepted(file: Content, name: str, folder: bool, *, regular: bool, wanted: Callable[[Content], bool]) -> bool:
    """Whether the member is read. Raises Failure for a name that leads out of the archive, a link or device, and an archive within the archive."""
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) or ".." in re.split(r"[/\\]", name):
        raise Failure(f"{file.name} holds {name!r}, a name that leads out of the archive: it is not read, since somebody meant harm or packed it wrongly.")
    if folder:
        return False
    if not regular:
        raise Failure(f"{file.name}: {name} is a link or device, not a file: pack the files themselves.")
    if is_archive(name):
        raise Failure(f"{file.name} holds the archive {name}, and archives in archives are not read: unpack it once.")
    return not PurePosixPath(name).name.startswith(".") and wanted(Content(name, b""))


@contextlib.contextmanager
def damage(file: Content) -> Iterator[None]:
    """Errors as a sentence: of a damaged archive the libraries raise nearly every kind."""
    try:
        yield
    except (Failure, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the file's beginning
            raise
        raise Failure(f"{file.name} is cut off or damaged ({files.first_line(error)}): copy it again.") from None
