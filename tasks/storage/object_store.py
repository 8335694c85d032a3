"""Object storage: the only file that speaks S3.

Every request is tried once and its outcome is reported as it is: a retry inside the SDK would report "precondition failed" for a conditional
write that had succeeded and whose answer was lost. Who calls decides what to do next.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasks.core.errors import RetryableError, StageError
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


class StoreSettings(NamedTuple):
    """Where the store is. `endpoint` None is AWS itself; keys None are found by boto3 as usual."""

    bucket: str
    prefix: str = "millrace"
    endpoint: str | None = None
    key: str | None = None
    secret: str | None = None
    keys: tuple[str, str] = (
        "MILLRACE_S3_BUCKET",
        "MILLRACE_S3_ENDPOINT",
    )  # where a person says so, for messages
    lock: Path | None = (
        None  # conditional writes take turns on this file: for a server of this machine whose own locking cannot be relied on
    )

    @classmethod
    def from_environment(cls) -> "StoreSettings | None":
        """From MILLRACE_S3_BUCKET, MILLRACE_S3_ENDPOINT and MILLRACE_S3_PREFIX; None where no store is configured."""
        bucket, endpoint = (
            os.environ.get("MILLRACE_S3_BUCKET"),
            os.environ.get("MILLRACE_S3_ENDPOINT"),
        )
        if endpoint and not bucket:
            raise StageError(
                "MILLRACE_S3_ENDPOINT is set but MILLRACE_S3_BUCKET is not: name the bucket too."
            )
        return (
            cls(bucket, os.environ.get("MILLRACE_S3_PREFIX", "millrace").strip("/"), endpoint)
            if bucket
            else None
        )

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" + (
            f" at {self.endpoint}" if self.endpoint else ""
        )


class ObjectInfo(NamedTuple):
    """An object as it was listed; `version` where the bucket keeps versions and they were asked for."""

    name: str
    etag: str
    version: str | None = None


class WriteOutcomeUnknown(Exception):
    """A conditional write whose answer did not come: it may have happened or not. Read back to know."""


class ObjectStore:
    def __init__(self, settings: StoreSettings) -> None:
        """Raises Failure where what AWS's variables or files say cannot be used."""
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        self.settings = settings
        style = {"addressing_style": "path"} if settings.endpoint else {}
        config = Config(
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            s3=style,
            max_pool_connections=48,
        )
        try:
            self.client: Any = create_session(settings).client(
                "s3", endpoint_url=settings.endpoint, aws_access_key_id=settings.key, aws_secret_access_key=settings.secret, config=config,
                region_name=None if not settings.endpoint else os.environ.get("AWS_REGION", "us-east-1"),
            )  # fmt: skip
        except BotoCoreError as error:
            raise StageError(
                f"{settings.place} cannot be opened ({str(error).rstrip('.')}): "
                "correct or unset the variable of AWS that says so, such as AWS_PROFILE, or correct the files in ~/.aws."
            ) from None

    def key(self, name: str) -> str:
        return f"{self.settings.prefix}/{name}"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """The object's bytes and its ETag, or None."""
        with self.explained():
            found = self.answer(self.key(name))
            return (found["Body"].read(), found["ETag"]) if found else None

    def sha256(self, name: str) -> str | None:
        """The hash of the bytes that the store gives back, or None where it has no such object."""
        with self.explained():
            found = self.answer(self.key(name))
            return hashlib.file_digest(found["Body"], "sha256").hexdigest() if found else None

    def save(self, item: ObjectInfo, path: Path) -> bool:
        """Write the object, exactly as it was listed, to the file; False where it has changed since or is gone."""
        with self.explained():
            found = self.answer(
                item.name,
                **({"VersionId": item.version} if item.version else {"IfMatch": f'"{item.etag}"'}),
            )
            if found:
                with path.open("wb") as file:
                    shutil.copyfileobj(found["Body"], file, 1 << 20)
            return found is not None

    def answer(self, key: str, **condition: str) -> Any:
        """What the store says of the object, its bytes as a stream; None where there is none, or none that meets the condition."""
        try:
            return self.client.get_object(Bucket=self.settings.bucket, Key=key, **condition)
        except self.client.exceptions.ClientError as error:
            if get_error_code(error) == "NoSuchKey" or (
                condition and get_error_code(error) in REFUSED_CODES
            ):
                return None
            raise

    def put_if_match(self, name: str, data: bytes, etag: str | None) -> bool:
        """Write over the object that has this ETag, or where there must be none yet; False where it is otherwise. Raises Unknown where the answer was lost."""
        from botocore.exceptions import BotoCoreError, ClientError

        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with (
            self.explained(),
            locks.file_lock(self.settings.lock) if self.settings.lock else contextlib.nullcontext(),
        ):
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
                if (
                    isinstance(error, BotoCoreError)
                    or get_error_code(error).startswith("5")
                    or get_error_code(error) in ("InternalError", "SlowDown", "RequestTimeout")
                ):
                    raise WriteOutcomeUnknown(str(error)) from error
                raise
        return True

    def upload(self, name: str, path: Path) -> None:
        """Write a file, in parts where it is large. Not conditional, so only for names that stand for one content."""
        with self.explained():
            self.client.upload_file(str(path), self.settings.bucket, self.key(name))

    def download(self, name: str, path: Path) -> None:
        with self.explained(name):
            self.client.download_file(self.settings.bucket, self.key(name), str(path))

    def names(self, under: str) -> Iterator[str]:
        """The names of all objects that start with `under`, in order."""
        return (item.name.removeprefix(self.key("")) for item in self.listed(self.key(under)))

    def listed(self, prefix: str, *, versions: bool = False) -> Iterator[ObjectInfo]:
        """All objects of the bucket, whoever wrote them, whose whole names start with `prefix`, in order."""
        pages, entries = (
            ("list_object_versions", "Versions") if versions else ("list_objects_v2", "Contents")
        )
        with self.explained():
            for page in self.client.get_paginator(pages).paginate(
                Bucket=self.settings.bucket, Prefix=prefix
            ):
                for item in page.get(entries, []):
                    if item.get("IsLatest", True):
                        yield ObjectInfo(
                            item["Key"], item["ETag"].strip('"'), item.get("VersionId")
                        )

    def check(self) -> None:
        """Raise a sentence where the store cannot be reached, refuses the credentials or has no such bucket."""
        with self.explained():
            self.client.head_bucket(Bucket=self.settings.bucket)

    @contextlib.contextmanager
    def explained(self, name: str = "") -> Iterator[None]:
        """Raise the store's errors as sentences. No credential is ever part of one."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        place, (bucket_key, endpoint_key) = self.settings.place, self.settings.keys
        try:
            yield
        except NoCredentialsError:
            raise StageError(
                f"There are no credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            ) from None
        except BotoCoreError as error:
            raise RetryableError(
                f"{place} cannot be reached ({type(error).__name__}): check that it runs and that {endpoint_key} is right."
            ) from None
        except (ClientError, Boto3Error) as error:
            said = get_error_code(error)
            if said in DENIED_CODES:
                raise StageError(
                    f"{place} refuses the credentials ({said}), or the bucket {self.settings.bucket!r} is not theirs: "
                    f"check the access key, its secret, what it may do and {bucket_key}."
                ) from None
            if name and said in ("NoSuchKey", "404"):
                raise StageError(
                    f"{place} has no object {name}: it was deleted, or the upload never ended."
                ) from None
            if said in ("NoSuchBucket", "404"):
                raise StageError(
                    f"{place}: there is no bucket {self.settings.bucket!r}: create it, or correct {bucket_key}."
                ) from None
            raise RetryableError(
                f"{place} answered with an error ({said or type(error).__name__})."
            ) from None


def create_session(settings: StoreSettings) -> Any:
    """A session of boto3. With keys given it reads no profile and no file of AWS, which may be wrong and say nothing of this store."""
    import boto3
    import botocore.session

    if not settings.key:
        return boto3.Session()  # the default session would keep credentials that have changed since
    without: dict[str, Any] = {
        "profile": (None, None, None, None),
        "config_file": (None, None, os.devnull, None),
        "credentials_file": (None, None, os.devnull, None),
    }
    return boto3.Session(botocore_session=botocore.session.Session(session_vars=without))


def get_error_code(error: Exception) -> str:
    """The S3 error code of a boto3 exception, or an empty string."""
    response = (
        getattr(error, "response", None) or {}
    )  # botocore's own errors, of connections, have one that is None
    return str(response.get("Error", {}).get("Code", ""))


def create_or_get(store: ObjectStore, name: str, data: bytes) -> bytes:
    """What an object holds that never changes: these bytes, which are written where it is not there yet, or those that came first."""
    with contextlib.suppress(WriteOutcomeUnknown):
        if store.put_if_match(name, data, None):
            return data
    found = store.get(name)
    if found is None:
        raise RetryableError(
            f"{store.settings.place}: writing {name} got no answer, and it is not there."
        )
    return found[0]


def create_once(store: ObjectStore, name: str, data: bytes) -> None:
    """Write an object that never changes. That it is there already with the same bytes is as good."""
    if create_or_get(store, name, data) != data:
        raise StageError(
            f"{store.settings.place}: {name} exists with other content; it is never written over. Compare the two by hand."
        )
