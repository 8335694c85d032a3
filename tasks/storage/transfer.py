"""Transferring large objects: in parts, several at once, and hashed while they come in."""

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tasks.storage import s3_client, s3_errors
from tasks.storage.object_store import ObjectStore

PART_BYTES = 16 << 20
# More at once is not faster, and two numbers more of parts are held in memory.
CONCURRENCY = 8
ATTEMPTS = 3  # to read one part
UPLOAD_ATTEMPTS = 2  # to write one; a server that hangs is waited for each time
BACKOFF_SECONDS = 0.5

OnBytes = Callable[[int], None]


class StoredObject(NamedTuple):
    """An object, from a byte on."""

    name: str
    size: int
    start: int = 0


class ObjectPart(NamedTuple):
    """A range of an object.

    Attributes:
        name: The object.
        size: How many bytes the whole object must have.
        start: The first byte.
        end: The byte after the last one.
    """

    name: str
    size: int
    start: int
    end: int


def ignore_bytes(count: int) -> None:
    """Take no note of bytes."""


def upload(store: ObjectStore, name: str, path: Path, on_bytes: OnBytes = ignore_bytes) -> None:
    """Write a file to the store, in parts if it is large.

    The write is not conditional, so it suits only names that stand for one content.

    Args:
        store: The store.
        name: The object.
        path: The file.
        on_bytes: Called with the number of bytes that were sent since the last call.
    """
    size = path.stat().st_size
    if size <= PART_BYTES:
        store.put(name, path.read_bytes())
        on_bytes(size)
        return
    # A part that is sent twice is the same part, so these requests may be repeated.
    client = s3_client.connect(store.settings, UPLOAD_ATTEMPTS).client
    with store.raise_readable_errors(), path.open("rb") as file:
        client.upload_fileobj(
            file,
            store.settings.bucket,
            store.key(name),
            Config=s3_client.configure_transfer(PART_BYTES, CONCURRENCY),
            Callback=on_bytes,
        )


def split_object(item: StoredObject) -> list[ObjectPart]:
    """Return the parts of an object. An empty object has one."""
    if item.size == 0:
        return [ObjectPart(item.name, 0, 0, 0)]
    return [
        ObjectPart(item.name, item.size, begin, min(begin + PART_BYTES, item.size))
        for begin in range(item.start, item.size, PART_BYTES)
    ]


def read_parts(
    store: ObjectStore, parts: Iterable[ObjectPart]
) -> Generator[bytes | None, None, None]:
    """Yield the bytes of parts in order, while the next ones are being fetched.

    Args:
        store: The store.
        parts: The parts, of one object or of several.

    Yields:
        The bytes of each part; None if there is no such object, or if it has another size.
    """
    pool = ThreadPoolExecutor(CONCURRENCY)
    waiting: deque[Future[bytes | None]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(read_part, store, part))
            if len(waiting) > CONCURRENCY:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def read_part(store: ObjectStore, part: ObjectPart) -> bytes | None:
    """Return the bytes of a part; None if there is no such object, or if it has another size.

    A lost connection is worth another try, for one part of many.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    for attempt in range(1, ATTEMPTS):
        try:
            return read_part_once(store, part)
        except (BotoCoreError, ClientError) as error:
            if not s3_errors.is_worth_retry(error):
                with store.raise_readable_errors():
                    raise
            time.sleep(BACKOFF_SECONDS * attempt)
    with store.raise_readable_errors():
        return read_part_once(store, part)


def read_part_once(store: ObjectStore, part: ObjectPart) -> bytes | None:
    """Return the bytes of a part by one request."""
    is_whole = part.end - part.start == part.size
    condition = {} if is_whole else {"Range": f"bytes={part.start}-{part.end - 1}"}
    response = store.get_object(store.key(part.name), **condition)
    if response is None or read_object_size(response) != part.size:
        return None
    data: bytes = response["Body"].read()
    return data


def read_object_size(response: Any) -> int:
    """Return the size of the whole object that a response is a range of."""
    _, _, size = response.get("ContentRange", "").rpartition("/")
    return int(size) if size.isdecimal() else int(response["ContentLength"])


def hash_object(store: ObjectStore, name: str) -> str | None:
    """Return the hash of the bytes that the store gives back; None without such an object."""
    size = store.size(name)
    if size is None:
        return None
    [digest] = hash_objects(store, [StoredObject(name, size)])
    return digest


def hash_objects(store: ObjectStore, objects: Iterable[StoredObject]) -> Iterator[str | None]:
    """Yield the hash of each object; None for one that is missing or has another size.

    The next object is fetched while one is hashed.
    """
    planned, wanted = itertools.tee(objects)
    contents = read_parts(store, split_objects(planned))
    for item in wanted:
        n_parts = len(split_object(item))
        yield hash_contents(itertools.islice(contents, n_parts))


def split_objects(objects: Iterable[StoredObject]) -> Iterator[ObjectPart]:
    """Yield the parts of each object."""
    for item in objects:
        yield from split_object(item)


def hash_contents(contents: Iterable[bytes | None]) -> str | None:
    """Return the hash of the contents of parts; None if one is missing."""
    digest = hashlib.sha256()
    is_missing = False
    for content in contents:
        if content is None:
            is_missing = True
        else:
            digest.update(content)
    return None if is_missing else digest.hexdigest()
