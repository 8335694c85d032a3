"""A malformed input, and what has to come out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from tasks.core import errors

SECRET = "s3cret-that-nobody-may-see"
FINAL = errors.EXIT_FAILED
CONFIG_ERROR = errors.EXIT_CONFIG_ERROR
RETRYABLE = errors.EXIT_RETRYABLE
GOOD = b"id,text,label\n1,first,no\n2,second,yes\n"

Input = bytes | Callable[[Path], object]  # the content of a file, or what makes the file
Rows = list[dict[str, str | None]]
Check = Callable[[Rows], bool]


def accept(rows: Rows) -> bool:
    """Check nothing."""
    return True


@dataclass(frozen=True)
class Case:
    """A malformed input: refused with a sentence, or kept as rows and rejects."""

    name: str
    inputs: dict[str, Input] = field(default_factory=dict)  # by the path of the file
    source: dict[str, JsonValue] = field(default_factory=dict)  # the recipe's section `ingest`
    sentence: str = ""  # a pattern; empty if the input is kept
    status: int = FINAL
    rows: int = 0
    rules: dict[str, int] = field(default_factory=dict)  # rejects by rule
    check: Check = accept
    site: dict[str, object] = field(default_factory=dict)  # attributes of the HTTP server
    store: str = ""  # whether an S3 server is needed: `good`, `wrong secret` or `deleted`
    recipe: dict[str, JsonValue] = field(default_factory=dict)  # other keys of the recipe


def refused(name: str, file: str, data: Input, sentence: str, **settings: JsonValue) -> Case:
    """A file that ends with a sentence."""
    return Case(name, {file: data}, {"path": file, **settings}, sentence)


def kept(
    name: str,
    file: str,
    data: bytes,
    rows: int,
    rules: dict[str, int] | None = None,
    check: Check = accept,
    **settings: JsonValue,
) -> Case:
    """A file of which some rows are kept, and the others counted as rejects."""
    source = {"path": file, **settings}
    return Case(name, {file: data}, source, rows=rows, rules=rules or {}, check=check)


def texts(*expected: str | None) -> Check:
    """Check the texts of the rows."""
    return lambda rows: [row["text"] for row in rows] == list(expected)


def labels(*expected: str | None) -> Check:
    """Check the labels of the rows."""
    return lambda rows: [row["label"] for row in rows] == list(expected)
