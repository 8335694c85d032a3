"""Local files: CSV, TSV, JSON lines, plain text, Parquet and Arrow.

A source names a path, glob or folder, or a list of them. Text may be compressed (.gz, .zst); files
may be members of an archive (.zip, .tar, .tar.gz, .tgz, .tar.zst).
"""

import glob
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks.core.errors import StageError
from tasks.recipe.ingest import FilesSource, TextFormat
from tasks.sources import other_files
from tasks.sources.base import BrokenRow, RowBatch, SourcePartition, build_local_partition
from tasks.sources.formats import archives, table_files
from tasks.sources.formats.file_content import FileContent, format_file_name
from tasks.sources.formats.file_notes import FileNotes
from tasks.storage import hashing

READ_SUFFIXES = (*table_files.READERS, *archives.ARCHIVE_SUFFIXES)


def iter_partitions(source: FilesSource) -> Iterator[SourcePartition]:
    """Yield each file, whose version is its hash."""
    for path in list_files(source.path):
        yield build_local_partition(
            str(path),
            partial(hashing.sha256, path),
            partial(read_batches, FileContent(str(path), path), source),
        )
    for pattern in list_patterns(source.path):
        if Path(pattern).is_dir():
            yield from list_other_files(Path(pattern))


def list_patterns(paths: str | list[str]) -> list[str]:
    """Return the paths, globs and folders that a source names."""
    return [paths] if isinstance(paths, str) else paths


def list_other_files(folder: Path) -> Iterator[SourcePartition]:
    """Yield a part for the files in a folder that are not read, if there are any."""
    unread = []
    hidden = []
    for path in sorted(folder.rglob("*")):
        name = format_file_name(str(path))
        if path.is_dir() or is_readable_path(path):
            continue
        if any(map(other_files.is_hidden, path.relative_to(folder).parts)):
            hidden.append(name)
        else:
            problem = other_files.describe_suffix(path.name, READ_SUFFIXES)
            unread.append(BrokenRow(name, problem))
    yield from other_files.build_partition(str(folder), unread, hidden)


def list_files(paths: str | list[str]) -> list[Path]:
    """Return the files that a source names, sorted.

    Raises:
        StageError: A path or pattern matches no file, or a file cannot be named or opened.
    """
    matches: set[Path] = set()
    for pattern in list_patterns(paths):
        matches |= match_pattern(pattern)
    for path in sorted(matches):
        check_path(path)
    return sorted(matches)


def match_pattern(pattern: str) -> set[Path]:
    """Return the files that a path, glob or folder means; of a folder only those that are read."""
    if Path(pattern).is_dir():
        paths = [path for path in Path(pattern).rglob("*") if is_readable_path(path)]
    else:
        paths = [Path(match) for match in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    matches = {path for path in paths if not path.is_dir()}
    if not matches:
        raise StageError(
            f"ingest.path: {pattern} matches no file in {Path.cwd()}: put the file there or "
            "correct the path."
        )
    return matches


def is_readable_path(path: Path) -> bool:
    """Return whether a file in a folder is one of those that are read."""
    return is_readable(FileContent(path.name, path)) and not other_files.is_hidden(path.name)


def check_path(path: Path) -> None:
    """Refuse a name that cannot be written, and what is not a file."""
    name = format_file_name(str(path))
    if name != str(path):
        raise StageError(f"{name}: the name of this file is not UTF-8 text: rename it.")
    if not path.is_file():
        link = " but a link to one that is gone" if path.is_symlink() else ""
        raise StageError(f"{path} is not a file{link}: put the data there.")


def is_readable(file: FileContent) -> bool:
    """Return whether a file has a suffix that is read."""
    return file.suffix in table_files.READERS or archives.is_archive(file.name)


def read_batches(file: FileContent, source: TextFormat) -> Iterator[RowBatch]:
    """Yield the rows of a file, or of each member of an archive."""
    unread: list[BrokenRow] = []
    members = iter([file])
    if archives.is_archive(file.name):
        members = archives.iter_members(file, is_readable, unread)
    for member in members:
        yield read_batch(member, source)
    if unread:
        yield RowBatch(file.name, other_files.NO_COLUMNS, unread=unread)


def read_batch(file: FileContent, source: TextFormat) -> RowBatch:
    """Read the rows of a file."""
    notes = FileNotes()
    table = table_files.read_table(file, source, notes)
    return RowBatch(file.name, table, notes.broken, warnings=notes.describe(file.name))
