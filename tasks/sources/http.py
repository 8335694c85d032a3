"""A file behind a URL: downloaded once for each version, and used only when it is whole.

A download that was cut off continues. No message shows the user, password or query of the URL.
"""

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import httpx

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import HttpSource
from tasks.sources import base, files
from tasks.sources.base import RowBatch, SourcePartition
from tasks.sources.formats.file_content import FileContent
from tasks.sources.url_variables import describe_double_encoding, expand_variables
from tasks.storage import hashing

HTTP_TIMEOUT = httpx.Timeout(30.0)
PARTIAL_CONTENT = 206
RANGE_NOT_SATISFIABLE = 416  # the file ends where the wanted range begins
TOO_MANY_REQUESTS = 429
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes each URL with its password


def iter_partitions(source: HttpSource) -> Iterator[SourcePartition]:
    """Yield the one file.

    Its version is the sha256 that the recipe expects, else what the server names, else the hash
    of the content.
    """
    file = RemoteFile(source, expand_variables(source.url))
    version = source.sha256 or file.fetch_version()
    download = functools.cache(functools.partial(file.download, version))

    def read() -> Iterator[RowBatch]:
        return files.read_batches(FileContent(file.name, download()), source)

    yield SourcePartition(file.name, version or hashing.sha256(download()), read)


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL whose variables are filled in."""

    source: HttpSource
    url: str

    @functools.cached_property
    def name(self) -> str:
        """The URL without user, password and query.

        Raises:
            ConfigError: It is not the URL of a file.
        """
        parts = split_url(self.url)
        if parts is None:
            raise ConfigError(
                "ingest.url is not the URL of a file once its ${…} are filled in: write it as "
                "https://user:${PASSWORD}@host:port/file."
            )
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"

    def fetch_version(self) -> str | None:
        """Ask the server for the version: its ETag, or time and size."""
        with self.open_response("HEAD", {}) as response:
            headers = response.headers
        if headers.get("etag"):
            return str(headers["etag"])
        if headers.get("last-modified"):
            return f"{headers['last-modified']} {headers.get('content-length')}"
        return None

    def download(self, version: str | None) -> Path:
        """Return the whole file, which is downloaded unless it is here already.

        It is named after its version and hash.
        """
        folder = base.DOWNLOAD_FOLDER / hashing.hash_json(self.url)[:16]
        stem = hashing.hash_json(version)[:16]
        earlier = find_download(folder, stem) if version else None
        if earlier:
            return earlier
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{stem}.part"
        self.continue_download(part, version)
        digest = hashing.sha256(part)
        if self.source.sha256 not in (None, digest):
            part.unlink()
            raise StageError(
                f"{self.name} has sha256 {digest}, but the recipe expects {self.source.sha256}: "
                "it was changed or damaged; check it, then correct ingest.sha256."
            )
        whole = part.replace(folder / f"{stem}-{digest}")
        for other in set(folder.iterdir()) - {whole}:
            other.unlink()
        return whole

    def continue_download(self, part: Path, version: str | None) -> None:
        """Append what is missing to `part`, or begin anew if that could join two versions."""
        if self.source.sha256:
            condition: dict[
                str, str
            ] = {}  # the hash of the whole shows whether the pieces belong together
        elif version and version.startswith('"'):
            condition = {"If-Range": version}  # an ETag that is not weak promises the same bytes
        else:
            condition = {}
            part.unlink(missing_ok=True)
        size = part.stat().st_size if part.is_file() else 0
        headers = {"Range": f"bytes={size}-", **condition} if size else {}
        with self.open_response("GET", headers) as response:
            if size and response.status_code == RANGE_NOT_SATISFIABLE:
                return
            if response.status_code == PARTIAL_CONTENT:
                self.append_content(part, size, response)
            else:
                part.unlink(missing_ok=True)
                self.append_content(part, 0, response)

    def append_content(self, part: Path, size: int, response: httpx.Response) -> None:
        """Append a response to the `size` bytes of `part`."""
        with part.open("ab") as file:
            for chunk in response.iter_raw():
                size += len(chunk)
                if size > self.source.max_bytes:
                    part.unlink()
                    raise StageError(
                        f"{self.name} is larger than {self.source.max_bytes:,} bytes: raise "
                        "ingest.max_bytes if that is right."
                    )
                file.write(chunk)

    @contextlib.contextmanager
    def open_response(self, method: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Send a request and yield the response, whose body is still to be read.

        Raises:
            StageError: The server refuses, or leads to an address that is not read.
            RetryableError: The server fails, or the connection is lost.
        """
        name = self.name
        try:
            with httpx.stream(
                method,
                self.url,
                headers={"Accept-Encoding": "identity", **headers},
                timeout=HTTP_TIMEOUT,
                follow_redirects=True,
            ) as response:
                self.check_status(response.status_code)
                yield response
        except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
            raise StageError(
                f"{name} leads to an address that is not read ({type(error).__name__}): only http "
                "and https are."
            ) from None
        except httpx.TransportError as error:
            raise RetryableError(
                f"{name} cannot be read to its end ({type(error).__name__}): what came is kept, "
                "and the next try continues from there."
            ) from None

    def check_status(self, status: int) -> None:
        """Turn the status of a refusal or failure into an error."""
        if status >= 500 or status == TOO_MANY_REQUESTS:
            raise RetryableError(f"{self.name} answers with status {status}.")
        if status >= 400 and status != RANGE_NOT_SATISFIABLE:
            raise StageError(
                f"{self.name} answers with status {status}: check the address and what its "
                f"credentials may read.{describe_double_encoding(self.source.url)}"
            )


def split_url(url: str) -> SplitResult | None:
    """Return the parts of the URL of a file, or None if it is none.

    No error leaves this function: the words of the parsers hold pieces of the URL.
    """
    try:
        parts = urlsplit(url)
        hosts = (parts.hostname, httpx.URL(url).host)
        port = parts.port
    except (ValueError, httpx.InvalidURL):
        return None
    return parts if all(hosts) and port != 0 else None


def find_download(folder: Path, stem: str) -> Path | None:
    """Return the file of an earlier download of a version that is as it was written."""
    for path in folder.glob(f"{stem}-*"):
        if hashing.sha256(path) == path.name.removeprefix(f"{stem}-"):
            return path
    return None
