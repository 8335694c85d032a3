"""Object storage: the only module that speaks S3.

Every request is tried once, and its outcome is reported as it is. A retry inside the SDK would
report "precondition failed" for a conditional write that had succeeded and whose answer was lost.
The caller decides what to do next.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.errors import RetryableError, StageError
from tasks.core.settings import read_settings, variable_name
from tasks.storage import locks

REFUSED_CODES = {
    "PreconditionFailed",
    "ConditionalRequestConflict",
    "NoSuchKey",
    "NoSuchVersion",
    "404",
    "409",
    "412",
}
DENIED_CODES = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403", "401"}
UNKNOWN_OUTCOME_CODES = {"InternalError", "SlowDown", "RequestTimeout"}
MISSING_CODES = {"NoSuchKey", "404"}
MISSING_BUCKET_CODES = {"NoSuchBucket", "404"}
CONNECT_SECONDS = 10
READ_SECONDS = 60
MAX_CONNECTIONS = 48
COPY_BYTES = 1 << 20


class StoreSettings(NamedTuple):
    """Where the store is.

    Attributes:
        bucket: The bucket's name.
        prefix: What all keys begin with.
        endpoint: The server's URL; None for AWS itself.
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
    variables: tuple[str, str] = (variable_name("s3_bucket"), variable_name("s3_endpoint"))
    lock: Path | None = None

    @classmethod
    def from_environment(cls) -> "StoreSettings | None":
        """Return the configured store, or None if none is configured."""
        settings = read_settings()
        if settings.s3_endpoint and not settings.s3_bucket:
            raise StageError(
                "MILLRACE_S3_ENDPOINT is set but MILLRACE_S3_BUCKET is not: name the bucket too."
            )
        if not settings.s3_bucket:
            return None
        return cls(settings.s3_bucket, settings.s3_prefix.strip("/"), settings.s3_endpoint)

    @property
    def address(self) -> str:
        """Where the store is, for messages."""
        server = f" at {self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.prefix}{server}"


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
        from botocore.exceptions import BotoCoreError

        self.settings = settings
        try:
            self.client: Any = create_client(settings)
        except BotoCoreError as error:
            reason = str(error).rstrip(".")
            raise StageError(
                f"{settings.address} cannot be opened ({reason}): correct or unset the variable "
                "of AWS that says so, such as AWS_PROFILE, or correct the files in ~/.aws."
            ) from None

    def key(self, name: str) -> str:
        """Return the object's whole key."""
        return f"{self.settings.prefix}/{name}"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return the object's bytes and its ETag, or None if there is no such object."""
        with self.raise_readable_errors():
            response = self.get_object(self.key(name))
            return (response["Body"].read(), response["ETag"]) if response else None

    def sha256(self, name: str) -> str | None:
        """Return the hash of the bytes that the store gives back; None without such an object."""
        with self.raise_readable_errors():
            response = self.get_object(self.key(name))
            return hashlib.file_digest(response["Body"], "sha256").hexdigest() if response else None

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
            code = get_error_code(error)
            if code == "NoSuchKey" or (condition and code in REFUSED_CODES):
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
                if get_error_code(error) in REFUSED_CODES:
                    return False
                if is_outcome_unknown(error):
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

    def upload(self, name: str, path: Path) -> None:
        """Write a file, in parts if it is large.

        The write is not conditional, so it suits only names that stand for one content.
        """
        with self.raise_readable_errors():
            self.client.upload_file(str(path), self.settings.bucket, self.key(name))

    def download(self, name: str, path: Path) -> None:
        """Write an object's bytes to a file."""
        with self.raise_readable_errors(name):
            self.client.download_file(self.settings.bucket, self.key(name), str(path))

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
            self.client.head_bucket(Bucket=self.settings.bucket)

    @contextlib.contextmanager
    def raise_readable_errors(self, name: str = "") -> Iterator[None]:
        """Raise the SDK's errors as sentences. No credential is ever part of one.

        Args:
            name: The object that the block reads, if its absence is an error.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        address = self.settings.address
        try:
            yield
        except NoCredentialsError:
            raise StageError(
                f"There are no credentials for {address}: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            ) from None
        except BotoCoreError as error:
            _, endpoint_variable = self.settings.variables
            raise RetryableError(
                f"{address} cannot be reached ({type(error).__name__}): check that it runs and "
                f"that {endpoint_variable} is right."
            ) from None
        except (ClientError, Boto3Error) as error:
            raise self.describe_refusal(error, name) from None

    def describe_refusal(self, error: Exception, name: str) -> StageError:
        """Return the sentence for a request that the store refused."""
        address = self.settings.address
        bucket_variable, _ = self.settings.variables
        code = get_error_code(error)
        if code in DENIED_CODES:
            return StageError(
                f"{address} refuses the credentials ({code}), or the bucket "
                f"{self.settings.bucket!r} is not theirs: check the access key, its secret, "
                f"what it may do and {bucket_variable}."
            )
        if name and code in MISSING_CODES:
            return StageError(
                f"{address} has no object {name}: it was deleted, or the upload never ended."
            )
        if code in MISSING_BUCKET_CODES:
            return StageError(
                f"{address}: there is no bucket {self.settings.bucket!r}: create it, or correct "
                f"{bucket_variable}."
            )
        return RetryableError(f"{address} answered with an error ({code or type(error).__name__}).")


def create_client(settings: StoreSettings) -> Any:
    """Return a client of boto3 that tries each request once."""
    from botocore.config import Config

    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        s3={"addressing_style": "path"} if settings.endpoint else {},
        max_pool_connections=MAX_CONNECTIONS,
    )
    region = os.environ.get("AWS_REGION", "us-east-1") if settings.endpoint else None
    return create_session(settings).client(
        "s3",
        endpoint_url=settings.endpoint,
        aws_access_key_id=settings.key,
        aws_secret_access_key=settings.secret,
        config=config,
        region_name=region,
    )


def create_session(settings: StoreSettings) -> Any:
    """Return a session of boto3.

    If the settings hold keys, the session reads no profile and no file of AWS: they may be wrong,
    and have nothing to do with this store.
    """
    import boto3
    import botocore.session

    if not settings.key:
        return boto3.Session()  # the default session would keep credentials that changed since
    without_files: dict[str, Any] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    session = botocore.session.Session(session_vars=without_files)
    return boto3.Session(botocore_session=session)


def get_error_code(error: Exception) -> str:
    """Return the S3 error code of a boto3 exception, or an empty string."""
    response = getattr(error, "response", None) or {}  # None for lost connections
    return str(response.get("Error", {}).get("Code", ""))


def is_outcome_unknown(error: Exception) -> bool:
    """Return whether a failed write may have happened all the same."""
    from botocore.exceptions import BotoCoreError

    code = get_error_code(error)
    return isinstance(error, BotoCoreError) or code.startswith("5") or code in UNKNOWN_OUTCOME_CODES


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
