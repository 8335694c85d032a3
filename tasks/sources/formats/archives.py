"""Archives: the members of a zip or tar file, one after the other, in memory.

Nothing of an archive is ever written to the disk.
"""

import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tasks.core.errors import StageError
from tasks.sources import other_files
from tasks.sources.base import BrokenRow
from tasks.sources.formats.file_content import (
    CHUNK_BYTES,
    FileContent,
    build_too_large_error,
    check_content,
    format_file_name,
    translate_read_errors,
)

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
ENCRYPTED_FLAG = 1  # bit of a zip entry's flags


class ArchiveEntry(NamedTuple):
    """An entry of an archive that is no folder."""

    name: str
    is_file: bool  # not a link, a device or the like
    read: Callable[[], bytes]


def is_archive(name: str) -> bool:
    """Return whether a file of this name is an archive."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def iter_members(
    file: FileContent, is_wanted: Callable[[FileContent], bool], unread: list[BrokenRow]
) -> Iterator[FileContent]:
    """Yield the wanted members, in the archive's own order; others are appended to `unread`.

    Raises:
        StageError: The archive is damaged, too large, unsafe, or has no wanted member.
    """
    check_content(file)
    iter_entries = iter_zip_entries if file.name.lower().endswith(".zip") else iter_tar_entries
    seen: set[str] = set()
    with translate_read_errors(file, "cut off or damaged"):
        for entry in iter_entries(file):
            check_entry(file, entry)
            if is_hidden(entry.name):
                continue
            if not is_wanted(FileContent(entry.name, b"")):
                problem = "files of this type are not read"
                unread.append(BrokenRow(f"{file.name}/{entry.name}", problem))
                continue
            if entry.name in seen:
                raise StageError(
                    f"{file.name} holds {entry.name} twice: pack it again with one of them."
                )
            seen.add(entry.name)
            yield FileContent(f"{file.name}/{entry.name}", entry.read())
    if not seen:
        raise StageError(
            f"{file.name} holds no file that is read: pack CSV, JSON lines, Parquet or text files "
            "into it."
        )


def is_hidden(name: str) -> bool:
    """Return whether a member is passed over, as such a file in a folder is."""
    return any(map(other_files.is_hidden, PurePosixPath(name).parts))


def iter_zip_entries(file: FileContent) -> Iterator[ArchiveEntry]:
    """Yield the entries of a zip file."""
    assert isinstance(file.location, Path)
    with zipfile.ZipFile(file.location) as archive:
        if sum(info.file_size for info in archive.infolist()) > file.unpacked_limit:
            raise build_too_large_error(file)
        for info in archive.infolist():
            if not info.is_dir():
                file_type = stat.S_IFMT(info.external_attr >> 16)
                is_file = file_type in (0, stat.S_IFREG)
                read = partial(read_zip_member, file, archive, info)
                yield ArchiveEntry(info.filename, is_file, read)


def read_zip_member(file: FileContent, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Read a member piece by piece, which ends at the size that was declared."""
    if info.flag_bits & ENCRYPTED_FLAG:
        raise StageError(
            f"{file.name}: {info.filename} is encrypted: pack the archive again without a password."
        )
    with archive.open(info) as stream:
        return b"".join(iter(partial(stream.read, CHUNK_BYTES), b""))


def iter_tar_entries(file: FileContent) -> Iterator[ArchiveEntry]:
    """Yield the entries of a tar file, which is read as a stream since it may be compressed.

    Raises:
        ReadError: The archive has no end mark, so it was cut off.
    """
    with file.open_unpacked() as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for info in archive:
            if not info.isdir():
                # The holes of a sparse file would be filled, without a limit.
                is_file = info.isfile() and not info.issparse()
                read = partial(read_tar_member, archive, info)
                yield ArchiveEntry(format_file_name(info.name), is_file, read)
        assert archive.fileobj
        if archive.fileobj.tell() == archive.offset:
            raise tarfile.ReadError("the end of the archive is missing")


def read_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    """Read a member that is a file."""
    stream = archive.extractfile(info)
    assert stream
    return stream.read()


def check_entry(file: FileContent, entry: ArchiveEntry) -> None:
    """Refuse an entry that leads out of the archive, is no file, or is an archive itself."""
    if is_outside(entry.name):
        raise StageError(
            f"{file.name} holds {entry.name!r}, a name that leads out of the archive: it is not "
            "read, since somebody meant harm or packed it wrongly."
        )
    if not entry.is_file:
        raise StageError(
            f"{file.name}: {entry.name} is a link or device, not a file: pack the files themselves."
        )
    if is_archive(entry.name):
        raise StageError(
            f"{file.name} holds the archive {entry.name}, and archives in archives are not read: "
            "unpack it once."
        )


def is_outside(name: str) -> bool:
    """Return whether a name is absolute or leads to a folder above."""
    is_absolute = name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name) is not None
    return is_absolute or ".." in re.split(r"[/\\]", name)
