"""Objects of a bucket: each is a part, read exactly as it was listed or not at all."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tasks.core.errors import RetryableError, StageError
from tasks.recipe.ingest import S3Source
from tasks.sources import files, other_files
from tasks.sources.base import DOWNLOAD_FOLDER, BrokenRow, RowBatch, SourcePartition
from tasks.sources.formats import table_files
from tasks.sources.formats.file_content import FileContent
from tasks.sources.other_files import describe_suffix
from tasks.sources.url_variables import expand_variables
from tasks.storage import store_settings
from tasks.storage.object_store import ObjectInfo, ObjectStore
from tasks.storage.store_settings import StoreSettings

ENDPOINT_KEY = "ingest.endpoint"


def iter_partitions(source: S3Source) -> Iterator[SourcePartition]:
    """Yield the objects in a format that is read, in order of name.

    The version of an object is that of its bucket, or its ETag.

    Raises:
        StageError: There is no such object.
    """
    store = open_store(source)
    listed = store.list_objects(source.prefix, versions=source.versions)
    objects = [item for item in listed if files.is_readable(FileContent(item.name, b""))]
    if not objects:
        raise StageError(
            f"{store.settings.address} holds no object that is read "
            f"({', '.join(table_files.READERS)}): put the data there or correct ingest.prefix."
        )
    for item in sorted(objects, key=lambda item: item.name):
        yield SourcePartition(
            name_object(source, item),
            item.version or item.etag,
            partial(read_object, source, store, item),
        )
    names = sorted({item.name for item in listed} - {item.name for item in objects})
    unread = [
        BrokenRow(f"s3://{source.bucket}/{name}", describe_suffix(name, files.READ_SUFFIXES))
        for name in names
        if not name.endswith("/")  # what consoles write for a folder
    ]
    yield from other_files.build_partition(store.settings.address, unread, [])


def name_object(source: S3Source, item: ObjectInfo) -> str:
    """Return the name that people know an object by."""
    return f"s3://{source.bucket}/{item.name}"


def open_store(source: S3Source) -> ObjectStore:
    """Open the bucket.

    Raises:
        ConfigError: `ingest.endpoint` is not the address of a server.
    """
    endpoint = expand_variables(source.endpoint, ENDPOINT_KEY) if source.endpoint else None
    if endpoint:
        store_settings.check_endpoint(endpoint, ENDPOINT_KEY)
    variables = ("ingest.bucket", ENDPOINT_KEY)
    settings = StoreSettings(source.bucket, source.prefix, endpoint, variables=variables)
    return ObjectStore(settings)


def read_object(source: S3Source, store: ObjectStore, item: ObjectInfo) -> Iterator[RowBatch]:
    """Download an object and yield its rows.

    Raises:
        RetryableError: It is not as it was listed.
    """
    name = name_object(source, item)
    DOWNLOAD_FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DOWNLOAD_FOLDER, prefix="s3-") as folder:
        path = Path(folder) / "object"
        if not store.download_object(item, path):
            raise RetryableError(
                f"{name} was deleted or changed after it was listed: the next try lists the "
                "objects again."
            )
        yield from files.read_batches(FileContent(name, path), source)
