"""What every kind of source gives: parts with a version, which are read as batches of rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from tasks.core.errors import RetryableError

DOWNLOAD_FOLDER = Path(".millrace/downloads")


class BrokenRow(NamedTuple):
    """A line or file that is no row."""

    content: str
    problem: str


class RowBatch(NamedTuple):
    """Rows as they came, and what could not be read as a row."""

    name: str  # the file, table or member of an archive that they come from
    table: pa.Table
    broken: Sequence[BrokenRow] = ()
    unread: Sequence[BrokenRow] = ()  # files from which no rows are read
    warnings: Sequence[str] = ()  # what people should know of how the rows were read
    split: str | None = None  # the part of a predefined split that all the rows are in


class SourcePartition(NamedTuple):
    """What is read at once, and not again while its version stays the same.

    It is read as several batches if it is an archive.
    """

    name: str
    version: str  # the hash or version of its content
    read: Callable[[], Iterable[RowBatch]]


def build_local_partition(
    name: str, compute_version: Callable[[], str], read: Callable[[], Iterable[RowBatch]]
) -> SourcePartition:
    """Return a part that consists of local files.

    Args:
        name: The name that people know it by.
        compute_version: Hashes the files. It is called again after reading, since the files
            may change meanwhile.
        read: Reads the files.
    """
    version = compute_version()

    def read_unchanged() -> Iterator[RowBatch]:
        yield from read()
        if compute_version() != version:
            raise RetryableError(f"{name} changed while it was read: nothing of it is kept.")

    return SourcePartition(name, version, read_unchanged)
