"""Sources: a module for each `ingest.kind`, of the same name, with `iter_partitions(source)`.

A module is imported only if a recipe needs it: what a source is read with takes long to load.
"""

import importlib
from collections.abc import Iterator
from typing import Protocol

from tasks.sources.base import SourcePartition


class Source(Protocol):
    """A recipe's section `ingest`. Its other fields depend on the kind."""

    @property
    def kind(self) -> str:
        """The name of a module of this package."""


def iter_partitions(source: Source) -> Iterator[SourcePartition]:
    """Yield the parts of a source, always in the same order."""
    module = importlib.import_module(f"tasks.sources.{source.kind}")
    yield from module.iter_partitions(source)


def list_partition_versions(source: Source) -> dict[str, str]:
    """Return the version of each part that the source has now, by name, in their order."""
    return {part.name: part.version for part in iter_partitions(source)}
