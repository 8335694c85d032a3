"""The registry: models in object storage, and which of them is in production.

    blobs/sha256/<hex>                        contents, named by their hash
    versions/<version>/manifest.json          files, lineage, metrics, runtime; version = first 16 hex digits of its sha256
    evidence/<version>/<champion>.json        the gate's result for that pair
    channels/<channel>.json                   the pointer: the only object that ever changes
    journal/<channel>/<generation>.json       one record for each move of the pointer

Everything but the pointer is written once. The pointer moves by compare-and-swap on its ETag, and carries a random promotion id: an ETag is a
hash of content, so a pointer that came back to old bytes would let a stale writer pass; with the id no two pointers are equal.
"""

import datetime
import hashlib
import io
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import files
from tasks.step import Failure, Retryable
from tasks.store import Store, Unknown

NONE = "none"  # stands for the champion where there is none


@dataclass(frozen=True)
class Pointer:
    """What a channel names, and the ETag that a compare-and-swap has to present."""

    generation: int
    version: str
    promotion_id: str
    record: dict[str, Any]
    etag: str


@dataclass(frozen=True)
class Move:
    """How an attempt to move the pointer ended: `won`, and the pointer as it is now."""

    won: bool
    now: Pointer | None


def canonical(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def version_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:16]


def manifest(model: str, folder: Path, lineage: dict[str, Any], metrics: dict[str, Any], runtime: dict[str, str]) -> bytes:
    """The manifest of the model whose files lie in `folder`: content only, so that the same model always has the same version."""
    listed = {name: {"sha256": digest, "size": (folder / name).stat().st_size} for name, digest in files.hashes(folder).items()}
    return canonical({"model": model, "files": listed, "lineage": lineage, "metrics": metrics, "runtime": runtime})


def publish(store: Store, model: str, folder: Path, data: bytes) -> str:
    """Upload the manifest's blobs, read each back and compare its hash, then write the manifest. Returns the version; safe to repeat."""
    version = version_of(data)

    def upload(item: tuple[str, dict[str, Any]]) -> None:
        name, about = item
        key = blob(model, about["sha256"])
        if store.sha256(key) == about["sha256"]:
            return
        store.upload(key, folder / name)
        if store.sha256(key) != about["sha256"]:
            raise Failure(f"{store.settings.place} gives back other bytes for {name} than were written: the store is not reliable; nothing was promoted.")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, json.loads(data)["files"].items()))
    once(store, f"{model}/versions/{version}/manifest.json", data)
    return version


def once(store: Store, name: str, data: bytes) -> None:
    """Write an object that never changes. That it is there already with the same bytes is as good."""
    try:
        if store.create(name, data):
            return
    except Unknown:
        pass
    found = store.get(name)
    if found is None:
        raise Retryable(f"{store.settings.place}: writing {name} got no answer, and it is not there.")
    if found[0] != data:
        raise Failure(f"{store.settings.place}: {name} exists with other content; it is never written over. Compare the two by hand.")


def read(store: Store, model: str, channel: str) -> Pointer | None:
    """The channel's pointer, or None where nothing was promoted yet."""
    found = store.get(f"{model}/channels/{channel}.json")
    if found is None:
        return None
    try:
        record = json.loads(found[0])
        return Pointer(record["generation"], record["version"], record["promotion_id"], record, found[1])
    except (ValueError, KeyError, TypeError):
        raise Failure(f"{store.settings.place}: {model}/channels/{channel}.json is not a pointer: restore it from the last record of the journal.") from None


def read_manifest(store: Store, model: str, version: str) -> dict[str, Any]:
    """The manifest of a version, verified against its name."""
    found = store.get(f"{model}/versions/{version}/manifest.json")
    if found is None or version_of(found[0]) != version:
        raise Failure(
            f"{store.settings.place}: the manifest of {model} {version} is {'missing' if found is None else 'not the one that its name says'}; the version cannot be trusted."
        )
    listed: dict[str, Any] = json.loads(found[0])
    return listed


def trained_on(store: Store, model: str, ids: Iterable[str]) -> dict[str, int | None]:
    """For each version how many of these rows it was trained on; None where it does not say."""
    wanted = pa.array(sorted(files.name_hash(name) for name in ids), pa.binary(8))
    found: dict[str, int | None] = {}
    for version in sorted(name.split("/")[-2] for name in store.names(f"{model}/versions/") if name.endswith("/manifest.json")):
        about = read_manifest(store, model, version)["files"].get("trained_on.parquet")
        data = store.get(blob(model, about["sha256"])) if about else None
        if data is None or hashlib.sha256(data[0]).hexdigest() != about["sha256"]:
            found[version] = None
            continue
        known = pq.read_table(io.BytesIO(data[0]))["id"]
        found[version] = int(pc.sum(pc.is_in(known, wanted)).as_py() or 0)
    return found


def fetch(store: Store, model: str, version: str, folder: Path) -> Path:
    """The files of a version, each verified against its manifest; what is here and verifies is not fetched again."""
    for name, about in read_manifest(store, model, version)["files"].items():
        path = folder / version / name
        if not path.resolve().is_relative_to((folder / version).resolve()):
            raise Failure(f"{model} {version}: its manifest names the file {name!r} outside its folder; the version cannot be trusted.")
        if path.is_file() and files.sha256(path) == about["sha256"]:
            continue
        with files.whole(path) as temporary:
            store.download(blob(model, about["sha256"]), temporary)
            if files.sha256(temporary) != about["sha256"]:
                raise Failure(
                    f"{store.settings.place}: {name} of {model} {version} does not have the bytes that its manifest names: it was damaged or tampered with."
                )
    return folder / version


def record_evidence(store: Store, model: str, version: str, champion: str | None, evidence: dict[str, Any]) -> str:
    """Keep the gate's result for this pair; returns its name."""
    name = f"{model}/evidence/{version}/{champion or NONE}.json"
    once(store, name, canonical(evidence))
    return name


def move(store: Store, model: str, channel: str, version: str, evidence: dict[str, Any], expected: Pointer | None, actor: str, reason: str) -> Move:
    """Make `version` what the channel names, if it still names `expected`, against which the evidence was made.

    Exactly one of several concurrent calls with the same `expected` wins. A lost answer is settled by reading back the promotion id.
    """
    if evidence["champion"] != (expected.version if expected else None) or evidence["verdict"] != "promote":
        raise Failure(
            f"{model} {version}: the evidence is for champion {evidence['champion']} with verdict {evidence['verdict']}; it does not allow this promotion."
        )
    if expected:
        settle(store, model, channel, expected)
    record: dict[str, Any] = {
        "generation": expected.generation + 1 if expected else 1,
        "promotion_id": secrets.token_hex(16),
        "model": model,
        "channel": channel,
        "version": version,
        "previous": expected.version if expected else None,
        "evidence": f"{model}/evidence/{version}/{expected.version if expected else NONE}.json",
        "actor": actor,
        "reason": reason,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    name, data = f"{model}/channels/{channel}.json", canonical(record)
    try:
        won = store.replace(name, data, expected.etag) if expected else store.create(name, data)
    except Unknown:
        time.sleep(1)  # let a write that is still under way end
        won = False
    now = read(store, model, channel)
    shown = ours(store, record, now)
    if won and not shown:
        raise Failure(
            f"{store.settings.place} accepted the move of {model} {channel}, but does not show it: it does not honour conditional writes. See `{name}`."
        )
    if shown:
        once(store, journal(model, channel, record["generation"]), data)
    elif now == expected:
        raise Retryable(f"{store.settings.place}: the move of {model} {channel} got no answer and did not happen.")
    return Move(shown, now)


def ours(store: Store, record: dict[str, Any], now: Pointer | None) -> bool:
    """Whether a write without an answer, or refused after a silent repetition, happened: the pointer says so, or the journal where it moved on."""
    if now is None:
        return False
    if now.generation == record["generation"]:
        return bool(now.promotion_id == record["promotion_id"])
    found = store.get(journal(record["model"], record["channel"], record["generation"])) if now.generation > record["generation"] else None
    return found is not None and bool(json.loads(found[0])["promotion_id"] == record["promotion_id"])


def settle(store: Store, model: str, channel: str, pointer: Pointer) -> None:
    """Write the journal's record of the pointer, if whoever moved it was killed before it could."""
    once(store, journal(model, channel, pointer.generation), canonical(pointer.record))


def history(store: Store, model: str, channel: str) -> Iterator[dict[str, Any]]:
    """Every move of the channel, newest first; the pointer itself stands in for a journal record that is not written yet."""
    pointer = read(store, model, channel)
    records = {}
    for name in store.names(f"{model}/journal/{channel}/"):
        found = store.get(name)
        if found:
            record = json.loads(found[0])
            records[record["generation"]] = record
    if pointer:
        records.setdefault(pointer.generation, pointer.record)
    for generation in sorted(records, reverse=True):
        yield records[generation]


def journal(model: str, channel: str, generation: int) -> str:
    return f"{model}/journal/{channel}/{generation:09d}.json"


def blob(model: str, digest: str) -> str:
    return f"{model}/blobs/sha256/{digest}"
