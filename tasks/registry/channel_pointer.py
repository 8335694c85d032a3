"""The pointer of a channel, which says what is in production, and how it moves.

Everything else in the registry is written once. The pointer moves by compare-and-swap on its
ETag. An ETag is a hash of content, so a pointer that came back to old bytes would let a stale
writer pass; each pointer therefore holds a random promotion id, and no two are equal.
"""

import datetime
import hashlib
import json
import secrets
import time
from dataclasses import dataclass

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.contracts.evidence import Evidence
from tasks.core.errors import RetryableError, StageError
from tasks.registry import object_keys
from tasks.storage import object_store
from tasks.storage.object_store import ObjectStore, WriteOutcomeUnknown

SETTLE_SECONDS = 1  # lets a write end whose answer was lost
SUFFIX_DIGITS = 16
PROMOTION_ID_BYTES = 16


@dataclass(frozen=True)
class CurrentPointer:
    """A pointer as it lies in the store, with the ETag that a compare-and-swap presents."""

    record: ChannelPointer
    etag: str

    @property
    def generation(self) -> int:
        """The number of the promotion that wrote it."""
        return self.record.generation

    @property
    def version(self) -> str:
        """The version that is in production."""
        return self.record.version


@dataclass(frozen=True)
class Promotion:
    """An attempt to make `version` what the channel names.

    Attributes:
        model: The recipe's name.
        channel: The channel's name.
        version: The version, already published.
        evidence: The verdict on it against the champion.
        expected: The pointer that the evidence was made against.
        actor: Who promotes.
        reason: Why.
    """

    model: str
    channel: str
    version: str
    evidence: Evidence
    expected: CurrentPointer | None
    actor: str
    reason: str

    @property
    def champion(self) -> str | None:
        """The version that is to be replaced."""
        return self.expected.version if self.expected else None


@dataclass(frozen=True)
class PromotionResult:
    """How a promotion ended: whether it won, and the pointer as it is now."""

    won: bool
    current: CurrentPointer | None


def read_pointer(store: ObjectStore, model: str, channel: str) -> CurrentPointer | None:
    """Read the channel's pointer; None if nothing was promoted yet.

    Raises:
        StageError: The object is not a pointer.
    """
    key = object_keys.channel_key(model, channel)
    stored = store.get(key)
    if stored is None:
        return None
    data, etag = stored
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    return CurrentPointer(ChannelPointer.parse(content, f"{store.settings.address}: {key}"), etag)


def promote(store: ObjectStore, promotion: Promotion) -> PromotionResult:
    """Make the version what the channel names, if the channel still names the expected one.

    Exactly one of several concurrent calls with the same `expected` wins. If the answer of the
    write is lost, the promotion id that the pointer holds tells whether it happened.

    Raises:
        StageError: The evidence does not allow the promotion, or the store cannot be relied on.
        RetryableError: The write did not happen.
    """
    require_permission(promotion)
    pointer = build_pointer(promotion)
    object_store.create_once(store, pointer.evidence, promotion.evidence.to_bytes())
    if promotion.expected:  # whoever promoted it may have been killed before it wrote the journal
        write_journal(store, promotion.expected.record)
    accepted = write_pointer(store, pointer, promotion.expected)
    current = read_pointer(store, promotion.model, promotion.channel)
    won = is_our_write(store, pointer, current)
    if won:
        write_journal(store, pointer)
    else:
        raise_if_lost(store, promotion, current, accepted=accepted)
    return PromotionResult(won, current)


def require_permission(promotion: Promotion) -> None:
    """Raise StageError unless the evidence is for this champion and allows the promotion."""
    evidence = promotion.evidence
    if evidence.champion != promotion.champion or not evidence.allows_promotion:
        raise StageError(
            f"{promotion.model} {promotion.version}: the evidence is for champion "
            f"{evidence.champion} with verdict {evidence.verdict}; it does not allow this "
            "promotion."
        )


def build_pointer(promotion: Promotion) -> ChannelPointer:
    """Return the pointer that is to be written."""
    return ChannelPointer(
        generation=promotion.expected.generation + 1 if promotion.expected else 1,
        promotion_id=secrets.token_hex(PROMOTION_ID_BYTES),
        model=promotion.model,
        channel=promotion.channel,
        version=promotion.version,
        previous=promotion.champion,
        evidence=promotion_evidence_key(promotion),
        actor=promotion.actor,
        reason=promotion.reason,
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        override=promotion.evidence.override,
    )


def promotion_evidence_key(promotion: Promotion) -> str:
    """Return the key of the evidence. An override lies beside the verdict that it overrides."""
    evidence = promotion.evidence
    suffix = ""
    if evidence.override:
        suffix = f"-{hashlib.sha256(evidence.to_bytes()).hexdigest()[:SUFFIX_DIGITS]}"
    return object_keys.evidence_key(promotion.model, promotion.version, promotion.champion, suffix)


def write_pointer(
    store: ObjectStore, pointer: ChannelPointer, expected: CurrentPointer | None
) -> bool:
    """Write the pointer by compare-and-swap; return whether the store accepted it."""
    key = object_keys.channel_key(pointer.model, pointer.channel)
    try:
        return store.put_if_match(key, pointer.to_bytes(), expected.etag if expected else None)
    except WriteOutcomeUnknown:
        time.sleep(SETTLE_SECONDS)
        return False


def write_journal(store: ObjectStore, pointer: ChannelPointer) -> None:
    """Write the journal's record of a promotion, unless it is there."""
    key = object_keys.journal_key(pointer.model, pointer.channel, pointer.generation)
    object_store.create_once(store, key, pointer.to_bytes())


def is_our_write(
    store: ObjectStore, pointer: ChannelPointer, current: CurrentPointer | None
) -> bool:
    """Return whether a write without an answer, or refused after a repetition, happened.

    The pointer says so, or the journal if the pointer has moved on since.
    """
    if current is None:
        return False
    if current.generation <= pointer.generation:
        return current.record.promotion_id == pointer.promotion_id
    key = object_keys.journal_key(pointer.model, pointer.channel, pointer.generation)
    stored = store.get(key)
    if stored is None:
        return False
    record = ChannelPointer.parse(json.loads(stored[0]), f"{store.settings.address}: {key}")
    return record.promotion_id == pointer.promotion_id


def raise_if_lost(
    store: ObjectStore,
    promotion: Promotion,
    current: CurrentPointer | None,
    *,
    accepted: bool,
) -> None:
    """Raise if a write that did not win was not won by another either."""
    address = store.settings.address
    move = f"{promotion.model} {promotion.channel}"
    if accepted:
        key = object_keys.channel_key(promotion.model, promotion.channel)
        raise StageError(
            f"{address} accepted the promotion of {move}, but does not show it: it does not "
            f"honour conditional writes. See `{key}`."
        )
    if current == promotion.expected:
        raise RetryableError(
            f"{address}: the promotion of {move} got no answer and did not happen."
        )
