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

import datetime
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import RetryableError, StageError
from tasks.registry import object_keys
from tasks.storage import files, object_store
from tasks.storage.object_store import ObjectStore, WriteOutcomeUnknown


@dataclass(frozen=True)
class ChannelPointer:
    """What a channel names, and the ETag that a compare-and-swap has to present."""

    generation: int
    version: str
    promotion_id: str
    record: dict[str, Any]
    etag: str


@dataclass(frozen=True)
class PromotionResult:
    """How an attempt to move the pointer ended: `won`, and the pointer as it is now."""

    won: bool
    now: ChannelPointer | None


def read_pointer(store: ObjectStore, model: str, channel: str) -> ChannelPointer | None:
    """The channel's pointer, or None where nothing was promoted yet."""
    found = store.get(f"{model}/channels/{channel}.json")
    if found is None:
        return None
    try:
        record = json.loads(found[0])
        return ChannelPointer(
            record["generation"], record["version"], record["promotion_id"], record, found[1]
        )
    except (ValueError, KeyError, TypeError):
        raise StageError(
            f"{store.settings.address}: {model}/channels/{channel}.json is not a pointer: restore it from the last record of the journal."
        ) from None


def promote(
    store: ObjectStore,
    model: str,
    channel: str,
    version: str,
    evidence: dict[str, Any],
    expected: ChannelPointer | None,
    actor: str,
    reason: str,
) -> PromotionResult:
    """Make `version` what the channel names, if it still names `expected`, against which the evidence was made.

    Exactly one of several concurrent calls with the same `expected` wins. A lost answer is settled by reading back the promotion id.
    """
    champion = expected.version if expected else None
    override = evidence.get("override")
    if evidence["champion"] != champion or (evidence["verdict"] != "promote" and not override):
        raise StageError(
            f"{model} {version}: the evidence is for champion {evidence['champion']} with verdict {evidence['verdict']}; it does not allow this promotion."
        )
    record: dict[str, Any] = {
        "generation": expected.generation + 1 if expected else 1,
        "promotion_id": secrets.token_hex(16),
        "model": model,
        "channel": channel,
        "version": version,
        "previous": champion,
        "evidence": object_keys.evidence_key(
            model,
            version,
            champion,
            f"-{hashlib.sha256(files.encode_json(evidence)).hexdigest()[:16]}" if override else "",
        ),
        "actor": actor,
        "reason": reason,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **({"override": override} if override else {}),
    }
    object_store.create_once(store, record["evidence"], files.encode_json(evidence))
    if expected:  # whoever moved it may have been killed before it could write the journal's record
        object_store.create_once(
            store,
            object_keys.journal_key(model, channel, expected.generation),
            files.encode_json(expected.record),
        )
    name, data = f"{model}/channels/{channel}.json", files.encode_json(record)
    try:
        won = store.put_if_match(name, data, expected.etag if expected else None)
    except WriteOutcomeUnknown:
        time.sleep(1)  # let a write that is still under way end
        won = False
    now = read_pointer(store, model, channel)
    shown = is_our_write(store, record, now)
    if won and not shown:
        raise StageError(
            f"{store.settings.address} accepted the move of {model} {channel}, but does not show it: it does not honour conditional writes. See `{name}`."
        )
    if shown:
        object_store.create_once(
            store, object_keys.journal_key(model, channel, record["generation"]), data
        )
    elif now == expected:
        raise RetryableError(
            f"{store.settings.address}: the move of {model} {channel} got no answer and did not happen."
        )
    return PromotionResult(shown, now)


def is_our_write(store: ObjectStore, record: dict[str, Any], now: ChannelPointer | None) -> bool:
    """Whether a write without an answer, or refused after a silent repetition, happened: the pointer says so, or the journal where it moved on."""
    shown = now.record if now else {}
    if now and now.generation > record["generation"]:
        found = store.get(
            object_keys.journal_key(record["model"], record["channel"], record["generation"])
        )
        shown = json.loads(found[0]) if found else {}
    return bool(shown.get("promotion_id") == record["promotion_id"])
