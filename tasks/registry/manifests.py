"""Manifests."""

import hashlib
import io
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core.errors import StageError
from tasks.registry import object_keys
from tasks.storage import files, hashing, object_store
from tasks.storage.object_store import ObjectStore


def derive_version(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:16]


def encode_manifest(
    model: str,
    folder: Path,
    lineage: dict[str, Any],
    metrics: dict[str, Any],
    runtime: dict[str, str],
) -> bytes:
    """The manifest of the model whose files lie in `folder`: content only, so that the same model always has the same version."""
    listed = {
        name: {"sha256": digest, "size": (folder / name).stat().st_size}
        for name, digest in hashing.hash_folder(folder).items()
    }
    return files.encode_json(
        {
            "model": model,
            "files": listed,
            "lineage": lineage,
            "metrics": metrics,
            "runtime": runtime,
        }
    )


def publish_version(store: ObjectStore, model: str, folder: Path, data: bytes) -> str:
    """Upload the manifest's blobs, read each back and compare its hash, then write the manifest. Returns the version; safe to repeat."""

    def upload(item: tuple[str, dict[str, Any]]) -> None:
        name, about = item
        key = object_keys.blob_key(model, about["sha256"])
        if store.sha256(key) != about["sha256"]:
            store.upload(key, folder / name)
            if store.sha256(key) != about["sha256"]:
                raise StageError(
                    f"{store.settings.address} gives back other bytes for {name} than were written: the store is not reliable; nothing was promoted."
                )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, json.loads(data)["files"].items()))
    object_store.create_once(store, f"{model}/versions/{derive_version(data)}/manifest.json", data)
    return derive_version(data)


def read_manifest(store: ObjectStore, model: str, version: str) -> dict[str, Any]:
    """The manifest of a version, verified against its name."""
    found = store.get(f"{model}/versions/{version}/manifest.json")
    if found is None or derive_version(found[0]) != version:
        wrong = "missing" if found is None else "not the one that its name says"
        raise StageError(
            f"{store.settings.address}: the manifest of {model} {version} is {wrong}; the version cannot be trusted."
        )
    return dict(json.loads(found[0]))


def count_training_rows(
    store: ObjectStore, model: str, ids: Iterable[str]
) -> dict[str, int | None]:
    """For each version how many of these rows it was trained on; None where it does not say."""
    wanted = pa.array(sorted(hashing.hash_row_id(name) for name in ids), pa.binary(8))
    found: dict[str, int | None] = {}
    for version in sorted(
        name.split("/")[-2]
        for name in store.list_names(f"{model}/versions/")
        if name.endswith("/manifest.json")
    ):
        about = read_manifest(store, model, version)["files"].get("trained_on.parquet")
        data = store.get(object_keys.blob_key(model, about["sha256"])) if about else None
        if data and hashlib.sha256(data[0]).hexdigest() == about["sha256"]:
            found[version] = int(
                pc.sum(pc.is_in(pq.read_table(io.BytesIO(data[0]))["id"], wanted)).as_py() or 0
            )
        else:
            found[version] = None
    return found


def fetch_version(store: ObjectStore, model: str, version: str, folder: Path) -> Path:
    """The files of a version, each verified against its manifest; what is here and verifies is not fetched again."""
    target = (folder / version).resolve()
    for name, about in read_manifest(store, model, version)["files"].items():
        path = target / name
        if not path.resolve().is_relative_to(target):
            raise StageError(
                f"{model} {version}: its manifest names the file {name!r} outside its folder; the version cannot be trusted."
            )
        if path.is_file() and hashing.sha256(path) == about["sha256"]:
            continue
        with files.atomic_file(path) as temporary:
            store.download(object_keys.blob_key(model, about["sha256"]), temporary)
            if hashing.sha256(temporary) != about["sha256"]:
                told = (
                    f"{name} of {model} {version} does not have the bytes that its manifest names"
                )
                raise StageError(
                    f"{store.settings.address}: {told}: it was damaged or tampered with."
                )
    return target
