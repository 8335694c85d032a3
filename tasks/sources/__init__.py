"""Sources: one module per kind, each with `fingerprint(source)` and `partitions(source)`."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass
class Partition:
    """A part of a source that is read at once: its name, the hash of its content, its rows as they came, and lines that are no rows at all."""

    name: str
    sha256: str
    table: pa.Table
    broken: list[tuple[str, str]] = field(default_factory=list)  # (the line, what is wrong with it)


def fingerprint(source: Any) -> dict[str, str]:
    """Identity of everything the source would give now: part → hash or version."""
    found: dict[str, str] = importlib.import_module(f"tasks.sources.{source.kind}").fingerprint(source)
    return found


def partitions(source: Any) -> Iterator[Partition]:
    yield from importlib.import_module(f"tasks.sources.{source.kind}").partitions(source)
