"""Objects of a bucket: each a part, known by its ETag (or its version), read exactly as it was listed or not at all."""

import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import S3Source
from tasks.sources import files
from tasks.sources.base import DOWNLOAD_FOLDER, RowBatch, SourcePartition, expand_variables
from tasks.sources.formats.file_content import FileContent
from tasks.storage.object_store import ObjectInfo, ObjectStore, StoreSettings


def iter_partitions(source: S3Source) -> Iterator[SourcePartition]:
    """The objects in a format that is read, in order of name. Raises Failure where there is none."""
    store = open_store(source)
    found = [
        item
        for item in store.list_objects(source.prefix, versions=source.versions)
        if files.is_readable(FileContent(item.name, b""))
    ]
    if not found:
        raise StageError(
            f"{store.settings.address} holds no object that is read ({', '.join(files.READERS)}): put the data there or correct ingest.prefix."
        )
    for item in sorted(found, key=lambda item: item.name):
        yield SourcePartition(
            f"s3://{source.bucket}/{item.name}",
            item.version or item.etag,
            partial(read_object, source, store, item),
        )


def open_store(source: S3Source) -> ObjectStore:
    endpoint = expand_variables(source.endpoint, "ingest.endpoint") if source.endpoint else None
    form = "https://host:port, without user, password and query"
    mistake = ConfigError(
        f"ingest.endpoint is not the address of an S3 server: write it as {form}."
    )
    if endpoint and not re.fullmatch("https?://[^@?#]+", endpoint):
        raise mistake
    keys = ("ingest.bucket", "ingest.endpoint")
    try:
        _ = urlsplit(endpoint or "").port  # boto3 would take a wrong one for a lost connection
        return ObjectStore(StoreSettings(source.bucket, source.prefix, endpoint, variables=keys))
    except ValueError:  # its words hold the endpoint
        raise mistake from None


def read_object(source: S3Source, store: ObjectStore, item: ObjectInfo) -> Iterator[RowBatch]:
    name = f"s3://{source.bucket}/{item.name}"
    DOWNLOAD_FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOAD_FOLDER, prefix="s3-") as folder:
        path = Path(folder) / "object"
        if not store.download_object(item, path):
            raise RetryableError(
                f"{name} was deleted or changed after it was listed: the next try lists the objects again."
            )
        yield from files.read_batches(FileContent(name, path), source)
