"""Sources: one module per kind, each with `fingerprint(source)` and `partitions(source, skip)`."""

import importlib
import os
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tasks.step import Mistake


@dataclass
class Partition:
    """A part of a source that is read at once: its name, the hash of its content, its rows as they came, and lines that are no rows at all."""

    name: str
    sha256: str
    table: pa.Table
    broken: list[tuple[str, str]] = field(default_factory=list)  # (the line, what is wrong with it)


def fingerprint(source: Any) -> dict[str, str]:
    """Identity of everything the source would give now: part → hash or version, in the order of `partitions`."""
    found: dict[str, str] = importlib.import_module(f"tasks.sources.{source.kind}").fingerprint(source)
    return found


def partitions(source: Any, skip: Container[str] = ()) -> Iterator[Partition]:
    """The parts of the source one after the other, without those whose name is in `skip`; where it can be helped, these are not read."""
    for partition in importlib.import_module(f"tasks.sources.{source.kind}").partitions(source, skip):
        if partition.name not in skip:
            yield partition


def expanded(url: str, key: str = "ingest.url") -> str:
    """The URL with each `${NAME}` taken from the environment, where passwords belong."""

    def variable(match: re.Match[str]) -> str:
        value = os.environ.get(match[1])
        if value is None:
            raise Mistake(f"{key} names the variable {match[1]}, which is not set: export it before the run.")
        return value

    return re.sub(r"\$\{(\w+)\}", variable, url)
