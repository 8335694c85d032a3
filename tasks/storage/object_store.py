"""Object storage: reading, writing and listing the objects of a bucket.

Every request is tried once, and its outcome is reported as it is. A retry inside the SDK would
report "precondition failed" for a conditional write that had succeeded and whose answer was lost.
The caller decides what to do next.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.errors import RetryableError, StageError
from tasks.storage import hashing, locks, s3_client, s3_errors
from tasks.storage.store_settings import StoreSettings

COPY_BYTES = 1 << 20
IDENTITY_DIGITS = 16
LISTING_FIELDS = {"Name", "KeyCount", "MaxKeys", "IsTruncated"}  # a listing has some of them


class ObjectInfo(NamedTuple):
    """An object as it was listed, with its version if the bucket keeps versions."""

    name: str
    etag: str
    version: str | None = None


class WriteOutcomeUnknown(Exception):  # noqa: N818  an outcome, not a mistake
    """A conditional write got no answer: it may have happened or not. Read back to know."""


class ObjectStore:
    """A bucket, or the part of it below a prefix."""

    def __init__(self, settings: StoreSettings) -> None:
        """Prepare a client; nothing is sent yet.

        Raises:
            StageError: AWS's variables or files hold something that cannot be used.
        """
        self.settings = settings
        self.connection = s3_client.connect(settings)
        self.client: Any = self.connection.client

    @property
    def identity(self) -> str:
        """What tells this store from others, as the name of a file.

        The embedded store is told by its lock: its port changes with each start.
        """
        settings = self.settings
        place = str(settings.lock or self.connection.endpoint)
        return hashing.hash_json([place, settings.bucket, settings.prefix])[:IDENTITY_DIGITS]

    def key(self, name: str) -> str:
        """Return the object's whole key."""
        return self.settings.key_of(name)

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return the object's bytes and its ETag, or None if there is no such object."""
        with self.raise_readable_errors():
            response = self.get_object(self.key(name))
            if response is None:
                return None
            if "ETag" not in response:
                raise s3_errors.foreign_answer_error(self.settings)
            return response["Body"].read(), response["ETag"]

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes; None if there is no such object."""
        with self.raise_readable_errors():
            try:
                response = self.client.head_object(Bucket=self.settings.bucket, Key=self.key(name))
            except self.client.exceptions.ClientError as error:
                if s3_errors.get_error_code(error) in s3_errors.MISSING_CODES:
                    return None
                self.request_listing()  # its error has a reason, which answers to HEAD have not
                raise
            return int(response["ContentLength"])

    def download_object(self, item: ObjectInfo, path: Path) -> bool:
        """Write a listed object to a file; False if it has changed since, or is gone."""
        etag = f'"{item.etag}"'
        condition = {"VersionId": item.version} if item.version else {"IfMatch": etag}
        with self.raise_readable_errors():
            response = self.get_object(item.name, **condition)
            if response:
                with path.open("wb") as file:
                    shutil.copyfileobj(response["Body"], file, COPY_BYTES)
            return response is not None

    def get_object(self, key: str, **condition: str) -> Any:
        """Return the store's response, with the bytes as a stream.

        None if there is no object of this key, or none that meets the condition.
        """
        try:
            return self.client.get_object(Bucket=self.settings.bucket, Key=key, **condition)
        except self.client.exceptions.ClientError as error:
            code = s3_errors.get_error_code(error)
            if code == "NoSuchKey" or (condition and code in s3_errors.REFUSED_CODES):
                return None
            raise

    def put_if_match(self, name: str, data: bytes, etag: str | None) -> bool:
        """Write an object by compare-and-swap.

        Args:
            name: The object.
            data: Its new bytes.
            etag: The ETag that it must have now; None if it must not exist.

        Returns:
            Whether it was written; False if its ETag is another.

        Raises:
            WriteOutcomeUnknown: The answer was lost.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self.raise_readable_errors(), self.conditional_write_turn():
            try:
                self.client.put_object(
                    Bucket=self.settings.bucket,
                    Key=self.key(name),
                    Body=data,
                    ContentType="application/json",
                    **condition,
                )
            except (BotoCoreError, ClientError) as error:
                if s3_errors.get_error_code(error) in s3_errors.REFUSED_CODES:
                    return False
                if s3_errors.is_outcome_unknown(error):
                    raise WriteOutcomeUnknown(str(error)) from error
                raise
        return True

    @contextlib.contextmanager
    def conditional_write_turn(self) -> Iterator[None]:
        """Take turns with other conditional writes, if the settings ask for it."""
        if self.settings.lock is None:
            yield
            return
        with locks.file_lock(self.settings.lock):
            yield

    def put(self, name: str, data: bytes) -> None:
        """Write an object whatever it holds now."""
        with self.raise_readable_errors():
            self.client.put_object(Bucket=self.settings.bucket, Key=self.key(name), Body=data)

    def delete(self, name: str) -> None:
        """Delete an object; it is fine if there is none."""
        with self.raise_readable_errors():
            self.client.delete_object(Bucket=self.settings.bucket, Key=self.key(name))

    def list_names(self, prefix: str) -> Iterator[str]:
        """Yield the names of all objects that start with `prefix`, in order."""
        for item in self.list_objects(self.key(prefix)):
            yield item.name.removeprefix(self.key(""))

    def list_objects(self, prefix: str, *, versions: bool = False) -> Iterator[ObjectInfo]:
        """Yield all objects of the bucket, whoever wrote them, whose keys start with `prefix`.

        Args:
            prefix: The start of the whole key.
            versions: Whether to give each object's current version too.
        """
        operation = "list_object_versions" if versions else "list_objects_v2"
        entries = "Versions" if versions else "Contents"
        with self.raise_readable_errors():
            paginator = self.client.get_paginator(operation)
            for page in paginator.paginate(Bucket=self.settings.bucket, Prefix=prefix):
                for item in page.get(entries, []):
                    if item.get("IsLatest", True):
                        etag = item["ETag"].strip('"')
                        yield ObjectInfo(item["Key"], etag, item.get("VersionId"))

    def verify_access(self) -> None:
        """Raise a sentence if the store cannot be reached, refuses us or has no such bucket."""
        with self.raise_readable_errors():
            self.request_listing()

    def request_listing(self) -> Any:
        """Return the store's answer to listing one object."""
        response = self.client.list_objects_v2(
            Bucket=self.settings.bucket, Prefix=self.key(""), MaxKeys=1
        )
        if not LISTING_FIELDS & response.keys():
            raise s3_errors.foreign_answer_error(self.settings)
        return response

    @contextlib.contextmanager
    def raise_readable_errors(self) -> Iterator[None]:
        """Raise the SDK's errors as sentences."""
        with s3_errors.raise_readable_errors(self.settings):
            yield


def create_or_get(store: ObjectStore, name: str, data: bytes) -> bytes:
    """Write an object that never changes, unless it exists; return what it holds."""
    with contextlib.suppress(WriteOutcomeUnknown):
        if store.put_if_match(name, data, None):
            return data
    existing = store.get(name)
    if existing is None:
        raise RetryableError(
            f"{store.settings.address}: writing {name} got no answer, and it is not there."
        )
    return existing[0]


def create_once(store: ObjectStore, name: str, data: bytes) -> None:
    """Write an object that never changes; it is fine if it exists with the same bytes.

    Raises:
        StageError: It exists with other content.
    """
    if create_or_get(store, name, data) != data:
        raise StageError(
            f"{store.settings.address}: {name} exists with other content; it is never written "
            "over. Compare the two by hand."
        )
