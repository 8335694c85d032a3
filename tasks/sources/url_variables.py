"""The variables `${NAME}` in a source's URL: filled in from the environment, encoded as needed."""

import os
import re
from urllib.parse import quote

from tasks.core.errors import ConfigError

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
PERCENT_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
# A URL whose values are not filled in yet; after RFC 3986, appendix B.
URL_SHAPE = re.compile(
    r"(?:(?P<scheme>[^:/?#]+)://(?:(?P<userinfo>[^/?#]*)@)?(?P<host>[^/?#]*))?"
    r"(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?"
)


def expand_variables(url: str, key: str = "ingest.url") -> str:
    """Fill in each `${NAME}` of a URL from the environment, where passwords belong.

    What a value may be depends on its position:

    - As user or password, in the path of http, or after a `name=` of the query: any characters.
      They are percent-encoded here, so the variable holds them as they are. A `${NAME}` alone
      before the @ may be `user:password`.
    - As the whole URL or its beginning, scheme, host, port, a database's name or a whole query:
      a piece of URL. It is filled in unchanged, so whoever exports it encodes what is in it.

    Raises:
        ConfigError: A variable is not set, or one for the host holds a user or password.
    """
    shape = match_url(url)
    try:
        return PLACEHOLDER.sub(lambda match: expand_placeholder(shape, match, key), url)
    except KeyError as error:
        raise ConfigError(
            f"{key} names the variable {error.args[0]}, which is not set: export it before the run."
        ) from None


def match_url(url: str) -> re.Match[str]:
    """Return the parts of a URL, each of which may be empty."""
    shape = URL_SHAPE.match(url)
    assert shape  # the pattern matches every text
    return shape


def expand_placeholder(shape: re.Match[str], placeholder: re.Match[str], key: str) -> str:
    """Return the value for one `${NAME}` of a URL of this shape."""
    name = placeholder[1]
    value = os.environ[name]
    if is_encoded_position(shape, placeholder):
        return encode_value(value, shape, placeholder)
    if is_within("host", shape, placeholder) and "@" in value:
        raise ConfigError(
            f"{key}: the variable {name} is in the position of the host and holds an @: "
            "write user and password before it, as ${USER}:${PASSWORD}@."
        )
    return value


def encode_value(value: str, shape: re.Match[str], placeholder: re.Match[str]) -> str:
    """Percent-encode the value of a `${NAME}` as its position in the URL needs it."""
    if placeholder[0] == shape["userinfo"]:
        user, colon, password = value.partition(":")
        return percent_encode(user) + colon + percent_encode(password)
    if is_within("path", shape, placeholder):
        return percent_encode(value, safe="/")
    return percent_encode(value)


def is_encoded_position(shape: re.Match[str], placeholder: re.Match[str]) -> bool:
    """Return whether the value of this `${NAME}` is percent-encoded here."""
    if is_within("query", shape, placeholder):
        pair = shape.string[shape.start("query") : placeholder.start()].rpartition("&")[2]
        return "=" in pair
    if is_within("path", shape, placeholder):
        return shape["scheme"] in ("http", "https")
    return is_within("userinfo", shape, placeholder)


def is_within(part: str, shape: re.Match[str], placeholder: re.Match[str]) -> bool:
    """Return whether a `${NAME}` begins within this part of the URL."""
    return shape.start(part) <= placeholder.start() < shape.end(part)


def percent_encode(value: str, safe: str = "") -> str:
    """Percent-encode a value, also one that holds bytes that are no UTF-8."""
    return quote(value, safe=safe, errors="surrogateescape")


def describe_double_encoding(url: str, key: str = "ingest.url") -> str:
    """Return a sentence to add to an error if a value looks percent-encoded already, else ""."""
    shape = match_url(url)
    names = [
        placeholder[1]
        for placeholder in PLACEHOLDER.finditer(url)
        if is_encoded_position(shape, placeholder) and looks_encoded(placeholder[1])
    ]
    if not names:
        return ""
    return f" {', '.join(names)} looks percent-encoded, but {key} takes its value as it is."


def looks_encoded(name: str) -> bool:
    """Return whether the value of a variable holds something like %2F."""
    return PERCENT_ENCODED.search(os.environ.get(name, "")) is not None
