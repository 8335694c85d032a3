"""Sources: one module per kind, each with `parts(source)`."""

import importlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from tasks.step import Mistake, Retryable


class Rows(NamedTuple):
    """Rows as they came, and lines that are no rows at all, each with what is wrong with it. A part has several of these where it is an archive."""

    name: str
    table: pa.Table
    broken: Sequence[tuple[str, str]] = ()


class Part(NamedTuple):
    """What is read at once or, where its version is known, not again: its name, the hash or version of its content, and how it is read."""

    name: str
    version: str
    read: Callable[[], Iterable[Rows]]


def parts(source: Any) -> Iterator[Part]:
    yield from importlib.import_module(f"tasks.sources.{source.kind}").parts(source)


def fingerprint(source: Any) -> dict[str, str]:
    """Identity of everything that the source would give now: part → version, in their order."""
    return {part.name: part.version for part in parts(source)}


def on_disk(name: str, version: Callable[[], str], read: Callable[[], Iterable[Rows]]) -> Part:
    """A part whose version is the hash of files here. That they did not change while they were read is believed after another look."""
    before = version()

    def unchanged() -> Iterator[Rows]:
        yield from read()
        if version() != before:
            raise Retryable(f"{name} changed while it was read: nothing of this reading is kept.")

    return Part(name, before, unchanged)


def expanded(url: str, key: str = "ingest.url") -> str:
    """The URL with each `${NAME}` taken from the environment, where passwords belong."""
    try:
        return re.sub(r"\$\{(\w+)\}", lambda match: os.environ[match[1]], url)
    except KeyError as error:
        raise Mistake(f"{key} names the variable {error.args[0]}, which is not set: export it before the run.") from None
