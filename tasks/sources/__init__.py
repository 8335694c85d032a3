"""Sources: one module per kind, each with `parts(source)`."""

import importlib
from collections.abc import Iterator
from typing import Any

from tasks.sources.base import SourcePartition


def iter_partitions(source: Any) -> Iterator[SourcePartition]:
    yield from importlib.import_module(f"tasks.sources.{source.kind}").iter_partitions(source)


def list_partition_versions(source: Any) -> dict[str, str]:
    """Identity of everything that the source would give now: part → version, in their order."""
    return {part.name: part.version for part in iter_partitions(source)}
