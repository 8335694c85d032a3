"""A file behind a URL: downloaded once for each version, taken up where it was cut off, and believed only when it is whole.

No message shows the user, password or query of the URL.
"""

import contextlib
import functools
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import HttpSource
from tasks.sources import base, files
from tasks.sources.base import SourcePartition, describe_double_encoding, expand_variables
from tasks.sources.formats.file_content import FileContent
from tasks.storage import hashing

HTTP_TIMEOUT = httpx.Timeout(30.0)
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes each URL with its password


def iter_partitions(source: HttpSource) -> Iterator[SourcePartition]:
    """One, whose version is the sha256 that the recipe expects, or what the server names, or, where it names none, the hash of what it gives."""
    name, version = redact_url(source), source.sha256 or fetch_version(source)
    whole = functools.cache(lambda: fetch_file(source, version))
    yield SourcePartition(
        name,
        version or hashing.sha256(whole()),
        lambda: files.read_batches(FileContent(name, whole()), source),
    )


def redact_url(source: HttpSource) -> str:
    url = expand_variables(source.url)
    try:
        parts = urlsplit(url)
        wrong = not parts.hostname or parts.port == 0 or not httpx.URL(url).host
    except (ValueError, httpx.InvalidURL):  # their words hold pieces of the URL
        wrong = True
    if wrong:
        form = "https://user:${PASSWORD}@host:port/file"
        raise ConfigError(
            f"ingest.url is not the URL of a file once its ${{…}} are filled in: write it as {form}."
        )
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def fetch_version(source: HttpSource) -> str | None:
    """The version as the server names it: its ETag, or time and size."""
    with open_response(source, "HEAD", {}) as response:
        etag, changed, size = (
            response.headers.get(name) for name in ("etag", "last-modified", "content-length")
        )
    return etag or (f"{changed} {size}" if changed else None)


def fetch_file(source: HttpSource, version: str | None) -> Path:
    """The whole file, named after its version and hash; downloaded unless it is here already."""
    folder, stem = (
        base.DOWNLOAD_FOLDER / hashing.hash_json(expand_variables(source.url))[:16],
        hashing.hash_json(version)[:16],
    )
    for path in folder.glob(f"{stem}-*"):
        if version and hashing.sha256(path) == path.name.removeprefix(f"{stem}-"):
            return path
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{stem}.part"
    # Parts of two answers may be joined only if the hash is known, or an ETag that is not a weak one promises the same bytes.
    condition = (
        {}
        if source.sha256
        else {"If-Range": version}
        if version and version.startswith('"')
        else None
    )
    if condition is None:
        part.unlink(missing_ok=True)
    resume_download(source, part, condition or {})
    found = hashing.sha256(part)
    if source.sha256 and found != source.sha256:
        part.unlink()
        changed = f"{redact_url(source)} has sha256 {found}, but the recipe expects {source.sha256}"
        raise StageError(
            f"{changed}: it was changed or damaged; check it, then correct ingest.sha256."
        )
    whole = part.replace(folder / f"{stem}-{found}")
    for other in set(folder.iterdir()) - {whole}:
        other.unlink()
    return whole


def resume_download(source: HttpSource, part: Path, condition: dict[str, str]) -> None:
    """Append what is missing to `part`; from the beginning where the server does not continue, or the condition no longer holds."""
    have = part.stat().st_size if part.is_file() else 0
    with open_response(
        source, "GET", {"Range": f"bytes={have}-", **condition} if have else {}
    ) as response:
        if have and response.status_code == 416:  # nothing is missing
            return
        have = have if response.status_code == 206 else 0  # it continues
        with part.open("ab" if have else "wb") as file:
            for chunk in response.iter_raw():
                have += len(chunk)
                if have > source.max_bytes:
                    part.unlink()
                    raise StageError(
                        f"{redact_url(source)} is larger than {source.max_bytes:,} bytes: raise ingest.max_bytes if that is right."
                    )
                file.write(chunk)


@contextlib.contextmanager
def open_response(
    source: HttpSource, method: str, headers: dict[str, str]
) -> Iterator[httpx.Response]:
    """A response that was granted; its body is still to be read."""
    name, given = redact_url(source), {"Accept-Encoding": "identity", **headers}
    try:
        with httpx.stream(
            method,
            expand_variables(source.url),
            headers=given,
            timeout=HTTP_TIMEOUT,
            follow_redirects=True,
        ) as response:
            status = response.status_code
            if status >= 500 or status == 429:
                raise RetryableError(f"{name} answers with status {status}.")
            if status >= 400 and status != 416:
                raise StageError(
                    f"{name} answers with status {status}: check the address and what its credentials may read.{describe_double_encoding(source.url)}"
                )
            yield response
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise StageError(
            f"{name} leads to an address that is not read ({type(error).__name__}): only http and https are."
        ) from None
    except httpx.TransportError as error:
        raise RetryableError(
            f"{name} cannot be read to its end ({type(error).__name__}): what came is kept, and the next try goes on from there."
        ) from None
