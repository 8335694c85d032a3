"""Objects of a bucket: each a part, known by its ETag (or its version), read exactly as it was listed or not at all."""

import contextlib
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path

from tasks.recipe import S3
from tasks.sources import Partition, expanded, files
from tasks.sources.content import Content
from tasks.sources.http import DOWNLOADS
from tasks.step import Failure, Mistake, Retryable
from tasks.store import Object, Settings, Store


def fingerprint(source: S3) -> dict[str, str]:
    return {name(source, item): item.version or item.etag for item in listed(source, opened(source))}


def partitions(source: S3, skip: Container[str] = ()) -> Iterator[Partition]:
    store = opened(source)
    for item in listed(source, store):
        if name(source, item) not in skip:
            with downloaded(source, store, item) as path:
                yield from files.parts(Content(name(source, item), path), source, skip)


def name(source: S3, item: Object) -> str:
    return f"s3://{source.bucket}/{item.name}"


def opened(source: S3) -> Store:
    endpoint = expanded(source.endpoint, "ingest.endpoint") if source.endpoint else None
    if endpoint and (not endpoint.startswith(("http://", "https://")) or "@" in endpoint):
        raise Mistake("ingest.endpoint is not the address of an S3 server: write it as https://host:port, without user and password.")
    return Store(Settings(source.bucket, source.prefix, endpoint, keys=("ingest.bucket", "ingest.endpoint")))


def listed(source: S3, store: Store) -> list[Object]:
    """The objects in a format that is read, in order of name. Raises Failure where there is none."""
    found = [item for item in store.listed(source.prefix, versions=source.versions) if files.readable(Content(item.name, b""))]
    if not found:
        raise Failure(f"{store.settings.place} holds no object that is read ({', '.join(files.READERS)}): put the data there or correct ingest.prefix.")
    return sorted(found, key=lambda item: item.name)


@contextlib.contextmanager
def downloaded(source: S3, store: Store, item: Object) -> Iterator[Path]:
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS, prefix="s3-") as folder:
        path = Path(folder) / "object"
        if not store.save(item, path):
            raise Retryable(f"{name(source, item)} was deleted or changed after it was listed: the next try lists the objects again.")
        yield path
