"""Base."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.csv

from tasks.core.errors import ConfigError, RetryableError

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
URL_SHAPE = re.compile(
    r"(?:(?P<scheme>[^:/?#]+)://(?:(?P<userinfo>[^/?#]*)@)?(?P<host>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)  # of a URL whose values are not filled in yet; after RFC 3986, appendix B


class RowBatch(NamedTuple):
    """Rows as they came, and lines that are no rows at all, each with what is wrong with it. A part has several of these where it is an archive."""

    name: str
    table: pa.Table
    broken: Sequence[tuple[str, str]] = ()


class SourcePartition(NamedTuple):
    """What is read at once or, where its version is known, not again: its name, the hash or version of its content, and how it is read."""

    name: str
    version: str
    read: Callable[[], Iterable[RowBatch]]


def build_local_partition(
    name: str, version: Callable[[], str], read: Callable[[], Iterable[RowBatch]]
) -> SourcePartition:
    """A part whose version is the hash of files here. That they did not change while they were read is believed after another look."""
    before = version()

    def unchanged() -> Iterator[RowBatch]:
        yield from read()
        if version() != before:
            raise RetryableError(
                f"{name} changed while it was read: nothing of this reading is kept."
            )

    return SourcePartition(name, before, unchanged)


def expand_variables(url: str, key: str = "ingest.url") -> str:
    """Fill in each `${NAME}` of a URL from the environment, where passwords belong.

    What a value may be depends on where it stands:

    - As user or password, in the path of http, or behind a `name=` of the query: any characters.
      They are percent-encoded here, so the variable holds them as they are. A `${NAME}` alone
      before the @ may be `user:password`.
    - As the whole URL or its beginning, scheme, host, port, a database's name or a whole query:
      a piece of URL. It is filled in unchanged, so whoever exports it encodes what is in it.
    """
    shape = URL_SHAPE.match(url)
    assert shape  # each of its parts may be empty
    try:
        return PLACEHOLDER.sub(lambda match: expand_placeholder(shape, match, key), url)
    except KeyError as error:
        raise ConfigError(
            f"{key} names the variable {error.args[0]}, which is not set: export it before the run."
        ) from None


def expand_placeholder(shape: re.Match[str], match: re.Match[str], key: str) -> str:
    """Return what stands for one `${NAME}` of a URL of this shape."""
    value = os.environ[match[1]]
    if is_percent_encoded_position(shape, match):
        if match[0] == shape["userinfo"]:
            user, colon, password = value.partition(":")
            return percent_encode(user) + colon + percent_encode(password)
        return percent_encode(value, "/" if is_within("path", shape, match) else "")
    if is_within("host", shape, match) and "@" in value:
        told = f"{key}: the variable {match[1]} stands where the host stands and holds an @"
        raise ConfigError(
            f"{told}: write user and password before it, as ${{USER}}:${{PASSWORD}}@."
        )
    return value


def is_percent_encoded_position(shape: re.Match[str], match: re.Match[str]) -> bool:
    """Whether a value is percent-encoded where this `${NAME}` stands."""
    if is_within("query", shape, match):
        pair = shape.string[shape.start("query") : match.start()].rpartition("&")[2]
        return "=" in pair
    if is_within("path", shape, match):
        return shape["scheme"] in ("http", "https")
    return is_within("userinfo", shape, match)


def is_within(part: str, shape: re.Match[str], match: re.Match[str]) -> bool:
    return shape.start(part) <= match.start() < shape.end(part)


def percent_encode(value: str, safe: str = "") -> str:
    return quote(value, safe=safe, errors="surrogateescape")


def describe_double_encoding(url: str, key: str = "ingest.url") -> str:
    """Return words to add to an error where a value looks percent-encoded before it is here."""
    shape = URL_SHAPE.match(url)
    assert shape
    names = [
        match[1]
        for match in PLACEHOLDER.finditer(url)
        if is_percent_encoded_position(shape, match)
        and PERCENT_ENCODED.search(os.environ.get(match[1], ""))
    ]
    if not names:
        return ""
    return f" {', '.join(names)} looks percent-encoded, but {key} takes its value as it is."


BrokenLines = list[tuple[str, str]]

DOWNLOAD_FOLDER = Path(".millrace/downloads")
