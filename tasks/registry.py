"""The registry: models in object storage, and which of them is in production.

    blobs/sha256/<hex>                        contents, named by their hash
    versions/<version>/manifest.json          files, lineage, metrics, runtime; version = first 16 hex digits of its sha256
    evidence/<version>/<champion>.json        the gate's result for that pair; champion `none` where there was none
    evidence/<version>/<champion>-<hash>.json  the same where a person promoted the version all the same, with who and why
    looks/<champion>/<number>.json            which version was the champion's challenger of this number
    channels/<channel>.json                   the pointer: the only object that ever changes
    journal/<channel>/<generation>.json       one record for each move of the pointer

Everything but the pointer is written once. The pointer moves by compare-and-swap on its ETag, and carries a random promotion id: an ETag is a
hash of content, so a pointer that came back to old bytes would let a stale writer pass; with the id no two pointers are equal.
"""

import contextlib
import datetime
import hashlib
import io
import itertools
import json
import secrets
import time
from collections.abc import Iterable
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
    return (
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def version_of(manifest: bytes) -> str:
    return hashlib.sha256(manifest).hexdigest()[:16]


def manifest(
    model: str,
    folder: Path,
    lineage: dict[str, Any],
    metrics: dict[str, Any],
    runtime: dict[str, str],
) -> bytes:
    """The manifest of the model whose files lie in `folder`: content only, so that the same model always has the same version."""
    listed = {
        name: {"sha256": digest, "size": (folder / name).stat().st_size}
        for name, digest in files.hashes(folder).items()
    }
    return canonical(
        {
            "model": model,
            "files": listed,
            "lineage": lineage,
            "metrics": metrics,
            "runtime": runtime,
        }
    )


def publish(store: Store, model: str, folder: Path, data: bytes) -> str:
    """Upload the manifest's blobs, read each back and compare its hash, then write the manifest. Returns the version; safe to repeat."""

    def upload(item: tuple[str, dict[str, Any]]) -> None:
        name, about = item
        key = blob(model, about["sha256"])
        if store.sha256(key) != about["sha256"]:
            store.upload(key, folder / name)
            if store.sha256(key) != about["sha256"]:
                raise Failure(
                    f"{store.settings.place} gives back other bytes for {name} than were written: the store is not reliable; nothing was promoted."
                )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upload, json.loads(data)["files"].items()))
    once(store, f"{model}/versions/{version_of(data)}/manifest.json", data)
    return version_of(data)


def settled(store: Store, name: str, data: bytes) -> bytes:
    """What an object holds that never changes: these bytes, which are written where it is not there yet, or those that came first."""
    with contextlib.suppress(Unknown):
        if store.swap(name, data, None):
            return data
    found = store.get(name)
    if found is None:
        raise Retryable(
            f"{store.settings.place}: writing {name} got no answer, and it is not there."
        )
    return found[0]


def once(store: Store, name: str, data: bytes) -> None:
    """Write an object that never changes. That it is there already with the same bytes is as good."""
    if settled(store, name, data) != data:
        raise Failure(
            f"{store.settings.place}: {name} exists with other content; it is never written over. Compare the two by hand."
        )


def read(store: Store, model: str, channel: str) -> Pointer | None:
    """The channel's pointer, or None where nothing was promoted yet."""
    found = store.get(f"{model}/channels/{channel}.json")
    if found is None:
        return None
    try:
        record = json.loads(found[0])
        return Pointer(
            record["generation"], record["version"], record["promotion_id"], record, found[1]
        )
    except (ValueError, KeyError, TypeError):
        raise Failure(
            f"{store.settings.place}: {model}/channels/{channel}.json is not a pointer: restore it from the last record of the journal."
        ) from None


def judged(store: Store, model: str, version: str, champion: str | None) -> dict[str, Any] | None:
    """What the gate said of the version against this champion, if it has."""
    found = store.get(evidence_of(model, version, champion))
    return json.loads(found[0]) if found else None


def evidence_of(model: str, version: str, champion: str | None, about: str = "") -> str:
    return f"{model}/evidence/{version}/{champion or 'none'}{about}.json"


def look(store: Store, model: str, version: str, champion: str) -> int:
    """The number of the version's comparison with this champion: the first that no other version has taken, and the same however often it is asked."""
    data = canonical({"version": version})
    return next(
        number
        for number in itertools.count(1)
        if settled(store, f"{model}/looks/{champion}/{number:06d}.json", data) == data
    )


def read_manifest(store: Store, model: str, version: str) -> dict[str, Any]:
    """The manifest of a version, verified against its name."""
    found = store.get(f"{model}/versions/{version}/manifest.json")
    if found is None or version_of(found[0]) != version:
        wrong = "missing" if found is None else "not the one that its name says"
        raise Failure(
            f"{store.settings.place}: the manifest of {model} {version} is {wrong}; the version cannot be trusted."
        )
    return dict(json.loads(found[0]))


def trained_on(store: Store, model: str, ids: Iterable[str]) -> dict[str, int | None]:
    """For each version how many of these rows it was trained on; None where it does not say."""
    wanted = pa.array(sorted(files.name_hash(name) for name in ids), pa.binary(8))
    found: dict[str, int | None] = {}
    for version in sorted(
        name.split("/")[-2]
        for name in store.names(f"{model}/versions/")
        if name.endswith("/manifest.json")
    ):
        about = read_manifest(store, model, version)["files"].get("trained_on.parquet")
        data = store.get(blob(model, about["sha256"])) if about else None
        if data and hashlib.sha256(data[0]).hexdigest() == about["sha256"]:
            found[version] = int(
                pc.sum(pc.is_in(pq.read_table(io.BytesIO(data[0]))["id"], wanted)).as_py() or 0
            )
        else:
            found[version] = None
    return found


def fetch(store: Store, model: str, version: str, folder: Path) -> Path:
    """The files of a version, each verified against its manifest; what is here and verifies is not fetched again."""
    target = (folder / version).resolve()
    for name, about in read_manifest(store, model, version)["files"].items():
        path = target / name
        if not path.resolve().is_relative_to(target):
            raise Failure(
                f"{model} {version}: its manifest names the file {name!r} outside its folder; the version cannot be trusted."
            )
        if path.is_file() and files.sha256(path) == about["sha256"]:
            continue
        with files.whole(path) as temporary:
            store.download(blob(model, about["sha256"]), temporary)
            if files.sha256(temporary) != about["sha256"]:
                told = (
                    f"{name} of {model} {version} does not have the bytes that its manifest names"
                )
                raise Failure(f"{store.settings.place}: {told}: it was damaged or tampered with.")
    return target


def move(
    store: Store,
    model: str,
    channel: str,
    version: str,
    evidence: dict[str, Any],
    expected: Pointer | None,
    actor: str,
    reason: str,
) -> Move:
    """Make `version` what the channel names, if it still names `expected`, against which the evidence was made.

    Exactly one of several concurrent calls with the same `expected` wins. A lost answer is settled by reading back the promotion id.
    """
    champion = expected.version if expected else None
    override = evidence.get("override")
    if evidence["champion"] != champion or (evidence["verdict"] != "promote" and not override):
        raise Failure(
            f"{model} {version}: the evidence is for champion {evidence['champion']} with verdict {evidence['verdict']}; it does not allow this promotion."
        )
    record: dict[str, Any] = {
        "generation": expected.generation + 1 if expected else 1,
        "promotion_id": secrets.token_hex(16),
        "model": model,
        "channel": channel,
        "version": version,
        "previous": champion,
        "evidence": evidence_of(
            model,
            version,
            champion,
            f"-{hashlib.sha256(canonical(evidence)).hexdigest()[:16]}" if override else "",
        ),
        "actor": actor,
        "reason": reason,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **({"override": override} if override else {}),
    }
    once(store, record["evidence"], canonical(evidence))
    if expected:  # whoever moved it may have been killed before it could write the journal's record
        once(store, journal(model, channel, expected.generation), canonical(expected.record))
    name, data = f"{model}/channels/{channel}.json", canonical(record)
    try:
        won = store.swap(name, data, expected.etag if expected else None)
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
        raise Retryable(
            f"{store.settings.place}: the move of {model} {channel} got no answer and did not happen."
        )
    return Move(shown, now)


def ours(store: Store, record: dict[str, Any], now: Pointer | None) -> bool:
    """Whether a write without an answer, or refused after a silent repetition, happened: the pointer says so, or the journal where it moved on."""
    shown = now.record if now else {}
    if now and now.generation > record["generation"]:
        found = store.get(journal(record["model"], record["channel"], record["generation"]))
        shown = json.loads(found[0]) if found else {}
    return bool(shown.get("promotion_id") == record["promotion_id"])


def history(store: Store, model: str, channel: str) -> list[dict[str, Any]]:
    """Every move of the channel, newest first; the pointer itself stands in for a journal record that is not written yet."""
    pointer = read(store, model, channel)
    found = [
        json.loads(data[0])
        for name in store.names(f"{model}/journal/{channel}/")
        if (data := store.get(name))
    ]
    records = {
        record["generation"]: record for record in ([pointer.record] if pointer else []) + found
    }
    return [records[generation] for generation in sorted(records, reverse=True)]


def journal(model: str, channel: str, generation: int) -> str:
    return f"{model}/journal/{channel}/{generation:09d}.json"


def blob(model: str, digest: str) -> str:
    return f"{model}/blobs/sha256/{digest}"
