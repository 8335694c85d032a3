"""Base."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv

from tasks.core.errors import Mistake, Retryable

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
SHAPE = re.compile(
    r"(?:(?P<scheme>[^:/?#]+)://(?:(?P<userinfo>[^/?#]*)@)?(?P<host>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)  # of a URL whose values are not filled in yet; after RFC 3986, appendix B


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


def on_disk(name: str, version: Callable[[], str], read: Callable[[], Iterable[Rows]]) -> Part:
    """A part whose version is the hash of files here. That they did not change while they were read is believed after another look."""
    before = version()

    def unchanged() -> Iterator[Rows]:
        yield from read()
        if version() != before:
            raise Retryable(f"{name} changed while it was read: nothing of this reading is kept.")

    return Part(name, before, unchanged)


def expanded(url: str, key: str = "ingest.url") -> str:
    """Fill in each `${NAME}` of a URL from the environment, where passwords belong.

    What a value may be depends on where it stands:

    - As user or password, in the path of http, or behind a `name=` of the query: any characters.
      They are percent-encoded here, so the variable holds them as they are. A `${NAME}` alone
      before the @ may be `user:password`.
    - As the whole URL or its beginning, scheme, host, port, a database's name or a whole query:
      a piece of URL. It is filled in unchanged, so whoever exports it encodes what is in it.
    """
    shape = SHAPE.match(url)
    assert shape  # each of its parts may be empty
    try:
        return PLACEHOLDER.sub(lambda match: filled(shape, match, key), url)
    except KeyError as error:
        raise Mistake(
            f"{key} names the variable {error.args[0]}, which is not set: export it before the run."
        ) from None


def filled(shape: re.Match[str], match: re.Match[str], key: str) -> str:
    """Return what stands for one `${NAME}` of a URL of this shape."""
    value = os.environ[match[1]]
    if is_encoded(shape, match):
        if match[0] == shape["userinfo"]:
            user, colon, password = value.partition(":")
            return encoded(user) + colon + encoded(password)
        return encoded(value, "/" if within("path", shape, match) else "")
    if within("host", shape, match) and "@" in value:
        told = f"{key}: the variable {match[1]} stands where the host stands and holds an @"
        raise Mistake(f"{told}: write user and password before it, as ${{USER}}:${{PASSWORD}}@.")
    return value


def is_encoded(shape: re.Match[str], match: re.Match[str]) -> bool:
    """Whether a value is percent-encoded where this `${NAME}` stands."""
    if within("query", shape, match):
        pair = shape.string[shape.start("query") : match.start()].rpartition("&")[2]
        return "=" in pair
    if within("path", shape, match):
        return shape["scheme"] in ("http", "https")
    return within("userinfo", shape, match)


def within(part: str, shape: re.Match[str], match: re.Match[str]) -> bool:
    return shape.start(part) <= match.start() < shape.end(part)


def encoded(value: str, safe: str = "") -> str:
    return quote(value, safe=safe, errors="surrogateescape")


def encoded_twice(url: str, key: str = "ingest.url") -> str:
    """Return words to add to an error where a value looks percent-encoded before it is here."""
    shape = SHAPE.match(url)
    assert shape
    names = [
        match[1]
        for match in PLACEHOLDER.finditer(url)
        if is_encoded(shape, match) and ENCODED.search(os.environ.get(match[1], ""))
    ]
    if not names:
        return ""
    return f" {', '.join(names)} looks percent-encoded, but {key} takes its value as it is."


Broken = list[tuple[str, str]]

DOWNLOADS = Path(".millrace/downloads")
