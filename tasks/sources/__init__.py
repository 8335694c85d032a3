"""Sources: one module per `ingest.kind`, each with `iter_partitions(source)`."""

import importlib
from collections.abc import Iterator
from typing import Protocol

from tasks.sources.base import SourcePartition

# Imported only if a recipe needs it: what a source is read with takes long to load.
MODULE_BY_KIND = {
    "files": "tasks.sources.files",
    "http": "tasks.sources.http",
    "huggingface": "tasks.sources.huggingface",
    "images": "tasks.sources.images",
    "package": "tasks.sources.package",
    "request_log": "tasks.sources.request_log",
    "s3": "tasks.sources.s3",
    "sql": "tasks.sources.sql",
}


class Source(Protocol):
    """A recipe's section `ingest`. Its other fields depend on the kind."""

    @property
    def kind(self) -> str:
        """A key of `MODULE_BY_KIND`."""


def iter_partitions(source: Source) -> Iterator[SourcePartition]:
    """Yield the parts of a source, always in the same order."""
    module = importlib.import_module(MODULE_BY_KIND[source.kind])
    yield from module.iter_partitions(source)


def list_partition_versions(source: Source) -> dict[str, str]:
    """Return the version of each part that the source has now, by name, in their order."""
    return {part.name: part.version for part in iter_partitions(source)}
