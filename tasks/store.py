"""Object storage: the only file that speaks S3.

Every request is tried once and its outcome is reported as it is: a retry inside the SDK would report "precondition failed" for a conditional
write that had succeeded and whose answer was lost. Who calls decides what to do next.
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.step import Failure, Retryable

REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404", "409", "412"}
DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403", "401"}


@dataclass(frozen=True)
class Settings:
    """Where the store is. `endpoint` None is AWS itself; keys None are found by boto3 as usual."""

    bucket: str
    prefix: str = "millrace"
    endpoint: str | None = None
    key: str | None = None
    secret: str | None = None
    keys: tuple[str, str] = ("MILLRACE_S3_BUCKET", "MILLRACE_S3_ENDPOINT")  # where a person says so, for messages
    lock: Path | None = None  # conditional writes take turns on this file: for a server of this machine whose own locking cannot be relied on

    @classmethod
    def configured(cls) -> "Settings | None":
        """From MILLRACE_S3_BUCKET, MILLRACE_S3_ENDPOINT and MILLRACE_S3_PREFIX; None where no store is configured."""
        bucket, endpoint = os.environ.get("MILLRACE_S3_BUCKET"), os.environ.get("MILLRACE_S3_ENDPOINT")
        if endpoint and not bucket:
            raise Failure("MILLRACE_S3_ENDPOINT is set but MILLRACE_S3_BUCKET is not: name the bucket too.")
        return cls(bucket, os.environ.get("MILLRACE_S3_PREFIX", "millrace").strip("/"), endpoint) if bucket else None

    @property
    def place(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" + (f" at {self.endpoint}" if self.endpoint else "")


@dataclass(frozen=True)
class Object:
    """An object as it was listed; `version` where the bucket keeps versions and they were asked for."""

    name: str
    etag: str
    version: str | None = None


class Unknown(Exception):
    """A conditional write whose answer did not come: it may have happened or not. Read back to know."""


class Store:
    def __init__(self, settings: Settings) -> None:
        import boto3
        from botocore.config import Config

        self.settings = settings
        style = {"addressing_style": "path"} if settings.endpoint else {}
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60, s3=style, max_pool_connections=48)
        self.client: Any = boto3.Session().client(  # the default session would keep credentials that have changed since
            "s3", endpoint_url=settings.endpoint, aws_access_key_id=settings.key, aws_secret_access_key=settings.secret, config=config,
            region_name=None if not settings.endpoint else os.environ.get("AWS_REGION", "us-east-1"),
        )  # fmt: skip

    def key(self, name: str) -> str:
        return f"{self.settings.prefix}/{name}"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """The object's bytes and its ETag, or None."""
        try:
            answer = self.client.get_object(Bucket=self.settings.bucket, Key=self.key(name))
            return answer["Body"].read(), answer["ETag"]
        except Exception as error:
            if code(error) == "NoSuchKey":
                return None
            raise self.explained(error) from None

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that must not exist yet; False where it does. Raises Unknown where the answer was lost."""
        return self.conditional(name, data, IfNoneMatch="*")

    def replace(self, name: str, data: bytes, etag: str) -> bool:
        """Write over the object that has this ETag; False where it has another one or is gone. Raises Unknown where the answer was lost."""
        return self.conditional(name, data, IfMatch=etag)

    def conditional(self, name: str, data: bytes, **condition: str) -> bool:
        from botocore.exceptions import BotoCoreError

        try:
            with turn(self.settings.lock):
                self.client.put_object(Bucket=self.settings.bucket, Key=self.key(name), Body=data, ContentType="application/json", **condition)
        except Exception as error:
            if code(error) in REFUSED:
                return False
            if isinstance(error, BotoCoreError) or code(error).startswith("5") or code(error) in ("InternalError", "SlowDown", "RequestTimeout"):
                raise Unknown(str(error)) from error
            raise self.explained(error) from None
        return True

    def put(self, name: str, data: bytes) -> None:
        """Write an object whatever was there."""
        try:
            self.client.put_object(Bucket=self.settings.bucket, Key=self.key(name), Body=data)
        except Exception as error:
            raise self.explained(error) from None

    def upload(self, name: str, path: Path) -> None:
        """Write a file, in parts where it is large. Not conditional, so only for keys that name their content."""
        try:
            self.client.upload_file(str(path), self.settings.bucket, self.key(name))
        except Exception as error:
            raise self.explained(error) from None

    def sha256(self, name: str) -> str | None:
        """The hash of the bytes that the store gives back, or None where it has no such object."""
        try:
            body = self.client.get_object(Bucket=self.settings.bucket, Key=self.key(name))["Body"]
            digest = hashlib.sha256()
            for chunk in body.iter_chunks(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()
        except Exception as error:
            if code(error) == "NoSuchKey":
                return None
            raise self.explained(error) from None

    def download(self, name: str, path: Path) -> None:
        try:
            self.client.download_file(self.settings.bucket, self.key(name), str(path))
        except Exception as error:
            raise self.explained(error, name) from None

    def names(self, under: str) -> Iterator[str]:
        """The names of all objects that start with `under`, in order."""
        try:
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.settings.bucket, Prefix=self.key(under)):
                for item in page.get("Contents", []):
                    yield item["Key"].removeprefix(self.key(""))
        except Exception as error:
            raise self.explained(error) from None

    def listed(self, prefix: str, *, versions: bool = False) -> Iterator[Object]:
        """All objects of the bucket, whoever wrote them, whose whole names start with `prefix`, in order."""
        pages, entries = ("list_object_versions", "Versions") if versions else ("list_objects_v2", "Contents")
        try:
            for page in self.client.get_paginator(pages).paginate(Bucket=self.settings.bucket, Prefix=prefix):
                for item in page.get(entries, []):
                    if item.get("IsLatest", True):
                        yield Object(item["Key"], item["ETag"].strip('"'), item.get("VersionId"))
        except Exception as error:
            raise self.explained(error) from None

    def save(self, item: Object, path: Path) -> bool:
        """Write the object, exactly as it was listed, to the file; False where it has changed since or is gone."""
        asked = {"VersionId": item.version} if item.version else {"IfMatch": f'"{item.etag}"'}
        try:
            body = self.client.get_object(Bucket=self.settings.bucket, Key=item.name, **asked)["Body"]
            with path.open("wb") as file:
                for chunk in body.iter_chunks(1 << 20):
                    file.write(chunk)
        except OSError:
            raise
        except Exception as error:
            if code(error) in REFUSED | {"NoSuchVersion"}:
                return False
            raise self.explained(error) from None
        return True

    def check(self) -> None:
        """Raise a sentence where the store cannot be reached, refuses the credentials or has no such bucket."""
        try:
            self.client.head_bucket(Bucket=self.settings.bucket)
        except Exception as error:
            raise self.explained(error) from None

    def explained(self, error: Exception, name: str = "") -> Failure:
        """The error as a sentence. No credential is ever part of it."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        place, (bucket_key, endpoint_key) = self.settings.place, self.settings.keys
        if isinstance(error, NoCredentialsError):
            return Failure(f"There are no credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.")
        if code(error) in DENIED:
            return Failure(
                f"{place} refuses the credentials ({code(error)}), or the bucket {self.settings.bucket!r} is not theirs: "
                f"check the access key, its secret, what it may do and {bucket_key}."
            )
        if code(error) in ("NoSuchBucket",) or (code(error) == "404" and not name):
            return Failure(f"{place}: there is no bucket {self.settings.bucket!r}: create it, or correct {bucket_key}.")
        if code(error) in ("NoSuchKey", "404"):
            return Failure(f"{place} has no object {name}: it was deleted, or the upload never ended.")
        if isinstance(error, BotoCoreError) and not isinstance(error, ClientError):
            return Retryable(f"{place} cannot be reached ({type(error).__name__}): check that it runs and that {endpoint_key} is right.")
        return Retryable(f"{place} answered with an error ({code(error) or type(error).__name__}).")


@contextlib.contextmanager
def turn(lock: Path | None) -> Iterator[None]:
    """Hold the lock file, if there is one. Each call opens it anew, so that threads exclude each other too."""
    with lock.open("w") if lock else contextlib.nullcontext() as file:
        if file:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def code(error: Exception) -> str:
    """The S3 error code of a boto3 exception, or an empty string."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
