"""The contents of a version's files: uploading, verifying and fetching them."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tasks.contracts.manifest import Manifest, ModelFile
from tasks.core.errors import StageError
from tasks.registry import object_keys
from tasks.storage import files, hashing, transfer
from tasks.storage.object_store import ObjectStore
from tasks.storage.partial_file import PartialFile
from tasks.storage.transfer import ObjectPart, OnBytes, StoredObject
from tasks.telemetry.transfer_progress import TransferProgress

UPLOAD_THREADS = 4  # of files; a large one goes in several parts at once


def upload_files(store: ObjectStore, folder: Path, manifest: Manifest) -> None:
    """Upload the files that the store lacks, and check what it gives back of all.

    One file is read back while the next ones are being uploaded.

    Raises:
        StageError: The store gives back other bytes than were written.
    """
    contents = {file.sha256: (folder / name, file) for name, file in manifest.files.items()}
    n_bytes = sum(file.size for _, file in contents.values())
    progress = TransferProgress(f"publishing {manifest.model} {manifest.version}", n_bytes)
    pool = ThreadPoolExecutor(UPLOAD_THREADS)
    try:
        uploads = [
            pool.submit(upload_if_missing, store, path, file, progress.add)
            for path, file in contents.values()
        ]
        hashes = transfer.hash_objects(store, await_uploads(uploads))
        for (path, file), digest in zip(contents.values(), hashes, strict=True):
            if digest != file.sha256:
                upload_again(store, path, file)
    finally:
        pool.shutdown(cancel_futures=True)
        progress.end()


def upload_if_missing(
    store: ObjectStore, path: Path, file: ModelFile, on_bytes: OnBytes
) -> StoredObject:
    """Upload a file unless the store has an object of its name and size."""
    stored = StoredObject(object_keys.blob_key(file.sha256), file.size)
    if store.size(stored.name) == stored.size:
        on_bytes(stored.size)
    else:
        transfer.upload(store, stored.name, path, on_bytes)
    return stored


def await_uploads(uploads: Iterable["Future[StoredObject]"]) -> Iterator[StoredObject]:
    """Yield each object once it is in the store."""
    for upload in uploads:
        yield upload.result()


def upload_again(store: ObjectStore, path: Path, file: ModelFile) -> None:
    """Upload a file over a damaged object, which may be an old one.

    Raises:
        StageError: It stays damaged.
    """
    key = object_keys.blob_key(file.sha256)
    transfer.upload(store, key, path)
    if transfer.hash_object(store, key) != file.sha256:
        raise StageError(
            f"{store.settings.address} gives back other bytes for {path.name} than were written: "
            "the store is not reliable, or the file changes; nothing was promoted."
        )


def fetch_files(
    store: ObjectStore, manifest: Manifest, wanted: Mapping[str, ModelFile], target: Path
) -> None:
    """Fetch the files that are not in a folder yet, or damaged, and check the bytes of each.

    What a fetch has written that was killed is not fetched again.

    Args:
        store: The store.
        manifest: The version.
        wanted: Those of its files that are to be in the folder.
        target: The folder.

    Raises:
        StageError: A file is damaged in the store, or cannot be written.
    """
    missing = {name: file for name, file in wanted.items() if not is_present(target / name, file)}
    action = f"fetching {manifest.model} {manifest.version}"
    progress = TransferProgress(action, sum(file.size for file in missing.values()))
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(progress.end)
            partials = {}
            for name, file in missing.items():
                partials[name] = PartialFile(target / name, file.sha256)
                stack.callback(partials[name].close)
                progress.add(partials[name].size)
            receive_files(store, manifest, partials, progress.add)
    except OSError as error:
        raise StageError(
            f"{target} cannot be written ({error.strerror or error}): free space there, or correct "
            "who may write."
        ) from None


def is_present(path: Path, file: ModelFile) -> bool:
    """Return whether a file has the right bytes; if so, everybody may read it from now on."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if hashing.sha256(path) != file.sha256:
        return False
    if path.stat().st_mode & 0o777 != files.FILE_MODE:
        path.chmod(files.FILE_MODE)
    return True


def receive_files(
    store: ObjectStore, manifest: Manifest, partials: Mapping[str, PartialFile], on_bytes: OnBytes
) -> None:
    """Write what is missing of each file, and give it its name if its bytes are right."""
    plan = {
        name: list_missing_parts(partial, manifest.files[name])
        for name, partial in partials.items()
    }
    parts = itertools.chain.from_iterable(plan.values())
    with contextlib.closing(transfer.read_parts(store, parts)) as contents:
        for name, partial in partials.items():
            was_resumed = partial.size > 0
            receive(partial, itertools.islice(contents, len(plan[name])), on_bytes)
            if was_resumed and not partial.is_whole():  # what an earlier try had left was wrong
                partial.restart()
                whole = list_missing_parts(partial, manifest.files[name])
                receive(partial, transfer.read_parts(store, whole), transfer.ignore_bytes)
            if not partial.is_whole():
                partial.restart()
                raise damaged_file_error(store, manifest, name)
            partial.take_name()


def list_missing_parts(partial: PartialFile, file: ModelFile) -> list[ObjectPart]:
    """Return the parts of the object that are to be appended to a file."""
    key = object_keys.blob_key(file.sha256)
    return transfer.split_object(StoredObject(key, file.size, partial.size))


def receive(partial: PartialFile, contents: Iterable[bytes | None], on_bytes: OnBytes) -> None:
    """Append the contents of parts to a file. What the store lacks is missing from it."""
    for content in contents:
        data = content or b""
        partial.write(data)
        on_bytes(len(data))


def damaged_file_error(store: ObjectStore, manifest: Manifest, name: str) -> StageError:
    """Return the error for a file whose object is missing or has other bytes."""
    file = manifest.files[name]
    key = object_keys.blob_key(file.sha256)
    size = store.size(key)
    fault = "does not have the bytes that its manifest names: it was damaged or tampered with"
    if size is None:
        fault = f"is missing: its object {key} was deleted"
    elif size != file.size:
        fault = f"has {size:,} of {file.size:,} bytes: it was cut off or tampered with"
    return StageError(
        f"{store.settings.address}: {name} of {manifest.model} {manifest.version} {fault}."
    )
