"""A file behind a URL: downloaded once for each version, taken up where it was cut off, and believed only when it is whole.

No message shows the user, password or query of the URL.
"""

import contextlib
import hashlib
import logging
from collections.abc import Container, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tasks import files
from tasks.recipe import Http
from tasks.sources import Partition, expanded
from tasks.sources import files as local
from tasks.sources.content import Content
from tasks.step import Failure, Retryable

DOWNLOADS = Path(".millrace/downloads")
TIMEOUT = httpx.Timeout(30.0)
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes each URL with its password


def fingerprint(source: Http) -> dict[str, str]:
    """The sha256 that the recipe expects, or the version that the server names, or, where it names none, the hash of what it gives."""
    version = source.sha256 or named(source) or files.sha256(fetched(source))
    return {place(expanded(source.url)): version}


def partitions(source: Http, skip: Container[str] = ()) -> Iterator[Partition]:
    name = place(expanded(source.url))
    if name not in skip:
        yield from local.parts(Content(name, fetched(source)), source, skip)


def place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def named(source: Http) -> str | None:
    """The version as the server names it: its ETag, or time and size."""
    with asked(source, "HEAD", {}) as response:
        etag, changed, size = (response.headers.get(name) for name in ("etag", "last-modified", "content-length"))
    return etag or (f"{changed} {size}" if changed else None)


def fetched(source: Http) -> Path:
    """The whole file, downloaded unless this version is here already."""
    url = expanded(source.url)
    folder = DOWNLOADS / hashlib.sha256(url.encode()).hexdigest()[:16]
    target = folder / (Path(urlsplit(url).path).name or "data")
    about = folder / "about.json"
    version = source.sha256 or named(source)
    known = files.read_json(about) if about.is_file() else {}
    if target.is_file() and version and known == {"version": version, "sha256": files.sha256(target)}:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part"
    begun = folder / "part.version"
    if not (source.sha256 or strong(version)) or not begun.is_file() or begun.read_text() != version:
        part.unlink(missing_ok=True)
        files.write_text(begun, version or "")
    download(source, part, version)
    found = files.sha256(part)
    if source.sha256 and found != source.sha256:
        part.unlink()
        raise Failure(
            f"{place(url)} has sha256 {found}, but the recipe expects {source.sha256}: it was changed or damaged; check it, then correct ingest.sha256."
        )
    part.replace(target)
    files.write_json(about, {"version": version or found, "sha256": found})
    return target


def strong(version: str | None) -> bool:
    """Whether the version is an ETag that promises the same bytes, so that parts of two answers may be joined."""
    return version is not None and version.startswith('"')


def download(source: Http, part: Path, version: str | None) -> None:
    """Append what is missing to `part`; from the beginning where the server does not continue, or the file is no longer of that version."""
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and version and strong(version):
        headers["If-Range"] = version
    with asked(source, "GET", headers) as response:
        if have and response.status_code == 416:  # nothing is missing
            return
        continued = response.status_code == 206
        have = have if continued else 0
        with part.open("ab" if continued else "wb") as file:
            for chunk in response.iter_raw():
                have += len(chunk)
                if have > source.max_bytes:
                    part.unlink()
                    raise Failure(f"{place(expanded(source.url))} is larger than {source.max_bytes:,} bytes: raise ingest.max_bytes if that is right.")
                file.write(chunk)


@contextlib.contextmanager
def asked(source: Http, method: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """A response that was granted; its body is still to be read."""
    url = expanded(source.url)
    try:
        with httpx.stream(method, url, headers={"Accept-Encoding": "identity", **headers}, timeout=TIMEOUT, follow_redirects=True) as response:
            status = response.status_code
            if status >= 500 or status == 429:
                raise Retryable(f"{place(url)} answers with status {status}.")
            if status >= 400 and status != 416:
                raise Failure(f"{place(url)} answers with status {status}: check the address and what its credentials may read.")
            yield response
    except (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise Failure(f"{place(url)} leads to an address that is not read ({type(error).__name__}): only http and https are.") from None
    except httpx.TransportError as error:
        raise Retryable(f"{place(url)} cannot be read to its end ({type(error).__name__}): what came is kept, and the next try goes on from there.") from None
