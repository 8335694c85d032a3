"""Sources: one module per kind, each with `parts(source)`."""

import importlib
from collections.abc import Iterator
from typing import Any

from tasks.sources.base import Part


def parts(source: Any) -> Iterator[Part]:
    yield from importlib.import_module(f"tasks.sources.{source.kind}").parts(source)


def fingerprint(source: Any) -> dict[str, str]:
    """Identity of everything that the source would give now: part → version, in their order."""
    return {part.name: part.version for part in parts(source)}
