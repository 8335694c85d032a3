"""Where an object store is, and how to name it in messages."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tasks.core.errors import ConfigError
from tasks.core.settings import read_settings, variable_name

BUCKET_VARIABLE = variable_name("s3_bucket")
ENDPOINT_VARIABLE = variable_name("s3_endpoint")
PREFIX_VARIABLE = variable_name("s3_prefix")
# A URL without user, password, query and fragment. It may have a path, such as https://host/s3.
ENDPOINT_PATTERN = re.compile(r"https?://[^@?#\s/]+[^@?#\s]*")


class StoreSettings(NamedTuple):
    """Where the store is.

    Attributes:
        bucket: The bucket's name.
        prefix: What all keys begin with; empty for the bucket's root.
        endpoint: The server's URL; None for the one that boto3 finds, which is AWS by default.
        key: The access key; None if boto3 is to find credentials as usual.
        secret: The secret of the access key.
        variables: What names bucket and endpoint, for messages.
        lock: A file on which conditional writes take turns, for a server of this machine whose
            own locking cannot be relied on.
    """

    bucket: str
    prefix: str = "millrace"
    endpoint: str | None = None
    key: str | None = None
    secret: str | None = None
    variables: tuple[str, str] = (BUCKET_VARIABLE, ENDPOINT_VARIABLE)
    lock: Path | None = None

    @classmethod
    def from_environment(cls) -> "StoreSettings | None":
        """Return the configured store, or None if none is configured.

        Raises:
            ConfigError: A variable has a value that no store can have.
        """
        settings = read_settings()
        if settings.s3_endpoint and not settings.s3_bucket:
            raise ConfigError(
                f"{ENDPOINT_VARIABLE} is set but {BUCKET_VARIABLE} is not: name the bucket too."
            )
        if not settings.s3_bucket:
            return None
        if settings.s3_endpoint:
            check_endpoint(settings.s3_endpoint, ENDPOINT_VARIABLE)
        return cls(settings.s3_bucket, parse_prefix(settings.s3_prefix), settings.s3_endpoint)

    @property
    def address(self) -> str:
        """Where the store is, for messages."""
        folder = f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"
        return f"{folder} at {self.endpoint}" if self.endpoint else folder

    def key_of(self, name: str) -> str:
        """Return the whole key of an object."""
        return f"{self.prefix}/{name}" if self.prefix else name


def check_endpoint(endpoint: str, variable: str) -> None:
    """Raise ConfigError unless an endpoint is the address of a server.

    The sentence does not show the endpoint: it may hold a password.

    Args:
        endpoint: The endpoint.
        variable: What names it, for the sentence.
    """
    try:
        is_url = bool(ENDPOINT_PATTERN.fullmatch(endpoint))
        _ = urlsplit(endpoint).port  # boto3 would take a wrong one for a lost connection
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(
            f"{variable} is not the address of an S3 server: write it as https://host:port or "
            "https://host/path, without user, password and query."
        )


def parse_prefix(text: str) -> str:
    """Return a prefix without slashes at its ends and without empty parts.

    Raises:
        ConfigError: A part of it is `.` or `..`, which servers resolve as a path does.
    """
    parts = [part for part in text.strip().split("/") if part]
    if {".", ".."} & set(parts):
        raise ConfigError(
            f"{PREFIX_VARIABLE} is {text!r}: no part of it may be . or .., which some servers "
            "resolve; name the folder itself, as in models/millrace."
        )
    return "/".join(parts)
