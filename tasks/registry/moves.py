"""How a channel moves: by a promotion, a rollback, or a freeze. One writer wins each generation."""

import secrets
import time
from dataclasses import dataclass

from tasks.contracts.channel_pointer import Action, ChannelPointer
from tasks.contracts.evidence import Evidence, Override
from tasks.core import timestamps
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.registry import channel_pointer, gate_evidence, object_keys, signing
from tasks.registry.channel_pointer import CurrentPointer
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import object_store
from tasks.storage.object_store import WriteOutcomeUnknown

SETTLE_SECONDS = 1  # lets a write end whose answer was lost
PROMOTION_ID_BYTES = 16


@dataclass(frozen=True)
class Promotion:
    """An attempt to make the version of the evidence what its channel names.

    Attributes:
        evidence: The verdict on the version against the champion.
        expected: The pointer that the evidence was made against.
        actor: Who promotes.
        reason: Why.
    """

    evidence: Evidence
    expected: CurrentPointer | None
    actor: str
    reason: str

    @property
    def champion(self) -> str | None:
        """The version that is to be replaced."""
        return self.expected.version if self.expected else None


@dataclass(frozen=True)
class MoveResult:
    """How a move ended: whether it won, and the pointer as it is now."""

    won: bool
    current: CurrentPointer | None


def promote(registry: Registry, promotion: Promotion) -> MoveResult:
    """Make the version what the channel names, if the channel still names the expected one.

    Exactly one of several concurrent calls with the same `expected` wins. If the answer of the
    write is lost, the promotion id that the pointer holds tells whether it happened.

    Raises:
        StageError: The evidence does not allow the promotion, the channel is frozen, or the store
            cannot be relied on.
        RetryableError: The write did not happen.
    """
    require_permission(promotion)
    evidence = promotion.evidence
    expected = promotion.expected
    pointer = ChannelPointer(
        generation=expected.generation + 1 if expected else 1,
        promotion_id=create_promotion_id(),
        action="promote",
        model=evidence.model,
        channel=evidence.channel,
        version=evidence.version,
        previous=promotion.champion,
        evidence=gate_evidence.write_evidence(registry, evidence),
        actor=promotion.actor,
        reason=promotion.reason,
        time=timestamps.format_utc_now(),
        frozen=expected.record.frozen if expected else False,
        override=evidence.override,
    )
    return write_move(registry, pointer, expected)


def require_permission(promotion: Promotion) -> None:
    """Raise StageError unless the evidence is for this champion and allows the promotion."""
    evidence = promotion.evidence
    if evidence.champion != promotion.champion or not evidence.allows_promotion:
        raise StageError(
            f"{evidence.model} {evidence.version}: the evidence is for champion "
            f"{evidence.champion} with verdict {evidence.verdict}; it does not allow this "
            "promotion."
        )
    if promotion.expected and promotion.expected.record.frozen and not evidence.override:
        raise StageError(describe_freeze(promotion.expected.record))


def describe_move(pointer: ChannelPointer) -> str:
    """Say what a channel names, who moved it there, and why."""
    state = ", and is frozen" if pointer.frozen else ""
    return (
        f"{pointer.channel} of {pointer.model} names {pointer.version}{state} (generation "
        f"{pointer.generation}, {pointer.action} by {pointer.actor}: {pointer.reason})."
    )


def describe_freeze(pointer: ChannelPointer) -> str:
    """Say that a channel is frozen, and how a person can move it."""
    return (
        f"{pointer.channel} of {pointer.model} is frozen since {pointer.time} by {pointer.actor} "
        f"({pointer.reason}): `millrace unfreeze {pointer.model}` lets runs promote again, "
        f"`millrace promote {pointer.model} --override` promotes this version alone."
    )


def roll_back(
    registry: Registry,
    expected: CurrentPointer,
    version: str,
    by: Override,
) -> MoveResult:
    """Make the channel name a version again that it named before.

    Only a person may move the channel afterwards: else the next run would promote again what was
    rolled back. The version has to be verified by the caller.

    Args:
        registry: The registry.
        expected: The pointer as it was when the person decided.
        version: The version.
        by: Who rolls back, and why.
    """
    current = expected.record
    record = find_promotion(registry, current, version)
    back = {"version": version, "previous": record.previous, "evidence": record.evidence}
    pointer = follow(current, "rollback", by, frozen=True)
    return write_move(registry, pointer.model_copy(update=back), expected)


def find_target(registry: Registry, current: ChannelPointer, version: str | None) -> str:
    """Return the version that a rollback leads to: the one that is named, or the one before.

    Raises:
        ConfigError: The channel names it now or never named it, or there is none before.
    """
    if version:
        return find_promotion(registry, current, version).version
    if current.previous is None:
        raise ConfigError(
            f"{current.model} {current.version} is the first in {current.channel}: there is "
            f"nothing before it. `millrace history {current.model}` lists every move."
        )
    return current.previous


def find_promotion(registry: Registry, current: ChannelPointer, version: str) -> ChannelPointer:
    """Return the latest record with which a channel named a version.

    Raises:
        ConfigError: The channel names it now, or never named it.
    """
    if current.version.startswith(version):
        raise ConfigError(
            f"{current.model} {version} is in {current.channel} already: name another version; "
            f"`millrace history {current.model}` lists them."
        )
    for generation in range(current.generation - 1, 0, -1):
        record = channel_pointer.read_record(registry, current.model, current.channel, generation)
        if record and record.version.startswith(version):
            return record
    raise ConfigError(
        f"{current.model} {version} was never in {current.channel}: `millrace history "
        f"{current.model}` lists what was."
    )


def set_frozen(
    registry: Registry, expected: CurrentPointer, by: Override, *, frozen: bool
) -> MoveResult:
    """Freeze a channel, so that no run promotes to it, or lift that again."""
    action: Action = "freeze" if frozen else "unfreeze"
    pointer = follow(expected.record, action, by, frozen=frozen)
    return write_move(registry, pointer, expected)


def follow(
    current: ChannelPointer, action: Action, by: Override, *, frozen: bool
) -> ChannelPointer:
    """Return the pointer of the next generation, not signed, that names the same version."""
    return current.model_copy(
        update={
            "generation": current.generation + 1,
            "promotion_id": create_promotion_id(),
            "action": action,
            "actor": by.actor,
            "reason": by.reason,
            "time": timestamps.format_utc_now(),
            "frozen": frozen,
            "override": None,
            "signature": None,
        }
    )


def create_promotion_id() -> str:
    """Return a random id, so that no two pointers have the same bytes."""
    return secrets.token_hex(PROMOTION_ID_BYTES)


def write_move(
    registry: Registry, unsigned: ChannelPointer, expected: CurrentPointer | None
) -> MoveResult:
    """Sign a pointer, write it by compare-and-swap, and find out whether it won."""
    pointer = signing.sign_contract(registry.keyring, unsigned)
    if expected:  # whoever wrote it may have been killed before it wrote the journal
        write_journal(registry, expected.record)
    accepted = write_pointer(registry, pointer, expected)
    current = channel_pointer.read_pointer(registry, pointer.model, pointer.channel)
    won = is_our_write(registry, pointer, current)
    if won:
        write_journal(registry, pointer)
    else:
        raise_if_lost(registry, pointer, expected, current, accepted=accepted)
    return MoveResult(won, current)


def write_pointer(
    registry: Registry, pointer: ChannelPointer, expected: CurrentPointer | None
) -> bool:
    """Write the pointer by compare-and-swap; return whether the store accepted it."""
    key = object_keys.channel_key(pointer.model, pointer.channel)
    etag = expected.etag if expected else None
    try:
        return registry.store.put_if_match(key, pointer.to_bytes(), etag)
    except WriteOutcomeUnknown:
        time.sleep(SETTLE_SECONDS)
        return False


def write_journal(registry: Registry, pointer: ChannelPointer) -> None:
    """Write the journal's record of a move, unless it is there.

    Raises:
        StageError: What stands in its place is no record.
        UntrustedError: Another record stands in its place.
    """
    key = object_keys.journal_key(pointer.model, pointer.channel, pointer.generation)
    data = pointer.to_bytes()
    existing = object_store.create_or_get(registry.store, key, data)
    if existing == data:
        return
    record = channel_pointer.parse_record(registry, existing, key, pointer.model, pointer.channel)
    if record.to_payload() != pointer.to_payload():  # it may have been signed anew
        raise UntrustedError(
            f"{registry.address}: {key} is not the record of the pointer of this generation: "
            f"`millrace doctor --repair {pointer.model}` mends what can be proven."
        )


def is_our_write(
    registry: Registry, pointer: ChannelPointer, current: CurrentPointer | None
) -> bool:
    """Return whether a write without an answer, or refused after a repetition, happened.

    The pointer says so, or the journal if the pointer has moved on since.
    """
    if current is None:
        return False
    if current.generation <= pointer.generation:
        return current.record.promotion_id == pointer.promotion_id
    record = channel_pointer.read_record(
        registry, pointer.model, pointer.channel, pointer.generation
    )
    return record is not None and record.promotion_id == pointer.promotion_id


def raise_if_lost(
    registry: Registry,
    pointer: ChannelPointer,
    expected: CurrentPointer | None,
    current: CurrentPointer | None,
    *,
    accepted: bool,
) -> None:
    """Raise if a write that did not win was not won by another either."""
    move = f"{pointer.model} {pointer.channel}"
    if accepted:
        key = object_keys.channel_key(pointer.model, pointer.channel)
        raise StageError(
            f"{registry.address} accepted the move of {move}, but does not show it: it does not "
            f"honour conditional writes. See `{key}`."
        )
    if current == expected:
        raise RetryableError(
            f"{registry.address}: the move of {move} got no answer and did not happen."
        )
