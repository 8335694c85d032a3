"""A file whose format is to be told, read as little as needed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 4096
CHUNK_BYTES = 1 << 20


class FormatError(Exception):
    """What is wrong with a file, as the rest of a sentence that its name begins."""


@dataclass(frozen=True)
class FileContent:
    """The content of a file.

    Attributes:
        path: Where it is.
        name: Its path in the version.
    """

    path: Path
    name: str

    @cached_property
    def size(self) -> int:
        """The number of bytes."""
        return self.path.stat().st_size

    @cached_property
    def head(self) -> bytes:
        """The first bytes."""
        with self.path.open("rb") as file:
            return file.read(HEAD_BYTES)

    def open(self) -> BinaryIO:
        """Open the file for reading."""
        return self.path.open("rb")

    def read_chunks(self) -> Iterator[bytes]:
        """Yield the content piece by piece."""
        with self.open() as file:
            yield from iter(lambda: file.read(CHUNK_BYTES), b"")

    def read_end(self, count: int) -> bytes:
        """Read the last bytes."""
        with self.open() as file:
            file.seek(max(0, self.size - count))
            return file.read()
