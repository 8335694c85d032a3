"""Objects of a bucket: each a part, known by its ETag (or its version), read exactly as it was listed or not at all."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks.recipe import S3
from tasks.sources import Part, Rows, expanded, files
from tasks.sources.content import Content
from tasks.sources.http import DOWNLOADS
from tasks.step import Failure, Mistake, Retryable
from tasks.store import Object, Settings, Store


def parts(source: S3) -> Iterator[Part]:
    """The objects in a format that is read, in order of name. Raises Failure where there is none."""
    endpoint = expanded(source.endpoint, "ingest.endpoint") if source.endpoint else None
    if endpoint and (not endpoint.startswith(("http://", "https://")) or "@" in endpoint):
        raise Mistake("ingest.endpoint is not the address of an S3 server: write it as https://host:port, without user and password.")
    store = Store(Settings(source.bucket, source.prefix, endpoint, keys=("ingest.bucket", "ingest.endpoint")))
    found = [item for item in store.listed(source.prefix, versions=source.versions) if files.readable(Content(item.name, b""))]
    if not found:
        raise Failure(f"{store.settings.place} holds no object that is read ({', '.join(files.READERS)}): put the data there or correct ingest.prefix.")
    for item in sorted(found, key=lambda item: item.name):
        yield Part(f"s3://{source.bucket}/{item.name}", item.version or item.etag, partial(downloaded, source, store, item))


def downloaded(source: S3, store: Store, item: Object) -> Iterator[Rows]:
    name = f"s3://{source.bucket}/{item.name}"
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS, prefix="s3-") as folder:
        path = Path(folder) / "object"
        if not store.save(item, path):
            raise Retryable(f"{name} was deleted or changed after it was listed: the next try lists the objects again.")
        yield from files.tables(Content(name, path), source)
