"""Archives: the members of a zip or tar file one after the other, in memory; nothing of them is ever written to the disk."""

import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from tasks.core.errors import StageError
from tasks.sources.formats.file_content import (
    SAMPLE_BYTES,
    FileContent,
    build_too_large_error,
    check_content,
    format_file_name,
    translate_read_errors,
)

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
ArchiveEntries = Iterator[
    tuple[str, bool, Callable[[], bytes]]
]  # all but folders: the name, whether it is a file, how it is read


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def iter_members(file: FileContent, wanted: Callable[[FileContent], bool]) -> Iterator[FileContent]:
    """The wanted members, in the archive's own order. Raises Failure for an archive that is damaged, too large, or means harm."""
    check_content(file)
    seen: set[str] = set()
    with translate_read_errors(file, "cut off or damaged"):
        for name, regular, read in (
            iter_zip_entries if file.name.lower().endswith(".zip") else iter_tar_entries
        )(file):
            reject_unsafe_member(file, name, regular)
            if PurePosixPath(name).name.startswith(".") or not wanted(FileContent(name, b"")):
                continue
            if name in seen:
                raise StageError(f"{file.name} holds {name} twice: pack it again with one of them.")
            seen.add(name)
            yield FileContent(f"{file.name}/{name}", read())
    if not seen:
        raise StageError(
            f"{file.name} holds no file that is read: pack CSV, JSON lines, Parquet or text files into it."
        )


def iter_zip_entries(file: FileContent) -> ArchiveEntries:
    assert isinstance(file.at, Path)
    with zipfile.ZipFile(file.at) as archive:
        if sum(info.file_size for info in archive.infolist()) > file.limit():
            raise build_too_large_error(file)
        for info in archive.infolist():
            if not info.is_dir():
                yield (
                    info.filename,
                    stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG),
                    partial(read_zip_member, file, archive, info),
                )


def read_zip_member(file: FileContent, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 1:
        raise StageError(
            f"{file.name}: {info.filename} is encrypted: pack the archive again without a password."
        )
    with archive.open(info) as stream:  # piece by piece, which stops at the size that was declared
        return b"".join(iter(lambda: stream.read(SAMPLE_BYTES), b""))


def iter_tar_entries(file: FileContent) -> ArchiveEntries:
    """Read as a stream, since what is compressed cannot be read otherwise. An archive without its end mark was cut off."""
    with file.opened() as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            if not info.isdir():
                regular = (
                    info.isfile() and not info.issparse()
                )  # the holes of a sparse file would be filled, without a limit
                yield (
                    format_file_name(info.name),
                    regular,
                    lambda info=info: archive.extractfile(info).read(),
                )  # type: ignore[union-attr,misc]
        if archive.fileobj.tell() == archive.offset:  # type: ignore[union-attr]
            raise tarfile.ReadError("the end of the archive is missing")


def reject_unsafe_member(file: FileContent, name: str, regular: bool) -> None:
    """Raise Failure for a name that leads out of the archive, a link or device, and an archive within the archive."""
    if (
        name.startswith(("/", "\\"))
        or re.match("[A-Za-z]:", name)
        or ".." in re.split(r"[/\\]", name)
    ):
        raise StageError(
            f"{file.name} holds {name!r}, a name that leads out of the archive: it is not read, since somebody meant harm or packed it wrongly."
        )
    if not regular:
        raise StageError(
            f"{file.name}: {name} is a link or device, not a file: pack the files themselves."
        )
    if is_archive(name):
        raise StageError(
            f"{file.name} holds the archive {name}, and archives in archives are not read: unpack it once."
        )
