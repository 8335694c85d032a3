"""Objects of a bucket: each a part, known by its ETag (or its version), read exactly as it was listed or not at all."""

import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tasks.core.errors import Failure, Mistake, Retryable
from tasks.recipe.ingest import S3
from tasks.sources import files
from tasks.sources.base import DOWNLOADS, Part, Rows, expanded
from tasks.sources.formats.file_content import Content
from tasks.storage.object_store import Object, Settings, Store


def parts(source: S3) -> Iterator[Part]:
    """The objects in a format that is read, in order of name. Raises Failure where there is none."""
    store = store_of(source)
    found = [
        item
        for item in store.listed(source.prefix, versions=source.versions)
        if files.readable(Content(item.name, b""))
    ]
    if not found:
        raise Failure(
            f"{store.settings.place} holds no object that is read ({', '.join(files.READERS)}): put the data there or correct ingest.prefix."
        )
    for item in sorted(found, key=lambda item: item.name):
        yield Part(
            f"s3://{source.bucket}/{item.name}",
            item.version or item.etag,
            partial(downloaded, source, store, item),
        )


def store_of(source: S3) -> Store:
    endpoint = expanded(source.endpoint, "ingest.endpoint") if source.endpoint else None
    form = "https://host:port, without user, password and query"
    mistake = Mistake(f"ingest.endpoint is not the address of an S3 server: write it as {form}.")
    if endpoint and not re.fullmatch("https?://[^@?#]+", endpoint):
        raise mistake
    keys = ("ingest.bucket", "ingest.endpoint")
    try:
        _ = urlsplit(endpoint or "").port  # boto3 would take a wrong one for a lost connection
        return Store(Settings(source.bucket, source.prefix, endpoint, keys=keys))
    except ValueError:  # its words hold the endpoint
        raise mistake from None


def downloaded(source: S3, store: Store, item: Object) -> Iterator[Rows]:
    name = f"s3://{source.bucket}/{item.name}"
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOADS, prefix="s3-") as folder:
        path = Path(folder) / "object"
        if not store.save(item, path):
            raise Retryable(
                f"{name} was deleted or changed after it was listed: the next try lists the objects again."
            )
        yield from files.tables(Content(name, path), source)
