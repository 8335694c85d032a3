"""Mending a channel whose pointer and journal disagree, as far as signatures prove it."""

from dataclasses import dataclass, field

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.core.errors import RetryableError, StageError
from tasks.registry import channel_pointer, journal, object_keys, seen_generations
from tasks.registry.registry import Registry


@dataclass
class Repair:
    """What was mended in a channel, and what cannot be.

    Attributes:
        mended: What was done, a sentence each.
        remaining: What is still wrong, and needs a person.
    """

    mended: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)


def repair_channel(registry: Registry, model: str, channel: str) -> Repair:
    """Mend what can be proven; everything else is told.

    A signed record of the journal proves that its move happened, as the journal is written after
    the pointer. So the pointer is put to the last one if it is lost, forged or older. A signed
    pointer proves its own record. A forged record where there cannot be one is deleted.

    Raises:
        RetryableError: Another writer moved the channel meanwhile.
    """
    repair = Repair()
    faults: list[str] = []
    records = journal.read_records(registry, model, channel, faults)
    restore_pointer(registry, model, channel, records, repair)
    restore_record(registry, model, channel, repair)
    repair.remaining = journal.read_history(registry, model, channel).faults
    return repair


def restore_pointer(
    registry: Registry,
    model: str,
    channel: str,
    records: dict[int, ChannelPointer],
    repair: Repair,
) -> None:
    """Write the pointer that the last signed record proves, if it is not there."""
    key = object_keys.channel_key(model, channel)
    stored = registry.store.get(key)
    last = records[max(records)] if records else None
    current = parse_stored(registry, stored, model, channel)
    if last is None or not is_newer(last, current):
        return
    if seen_generations.describe_replay(registry, last):
        return  # a later move is known, of which no record is left: a person decides
    etag = stored[1] if stored else None
    if not registry.store.put_if_match(key, last.to_bytes(), etag):
        raise RetryableError(f"{registry.address}: {key} has changed meanwhile: try again.")
    fault = "was lost" if stored is None else "was forged, damaged or old"
    repair.mended.append(
        f"The pointer of {model} {channel} {fault}: it names generation {last.generation} again "
        f"({last.version}), the last that the journal records."
    )


def parse_stored(
    registry: Registry, stored: tuple[bytes, str] | None, model: str, channel: str
) -> ChannelPointer | None:
    """Return the stored pointer; None if there is none, or it cannot be believed."""
    if stored is None:
        return None
    try:
        return channel_pointer.parse_pointer(registry, stored[0], model, channel)
    except StageError:
        return None


def is_newer(record: ChannelPointer, pointer: ChannelPointer | None) -> bool:
    """Return whether a signed record is of a later move than the pointer."""
    return pointer is None or record.generation > pointer.generation


def restore_record(registry: Registry, model: str, channel: str, repair: Repair) -> None:
    """Write the record that the signed pointer proves, and delete records above it.

    After `restore_pointer`, no signed record is above the pointer.
    """
    stored = registry.store.get(object_keys.channel_key(model, channel))
    pointer = parse_stored(registry, stored, model, channel)
    if pointer is None:
        return
    own_key = object_keys.journal_key(model, channel, pointer.generation)
    own = find_record(registry, own_key, model, channel)
    if own is None or own.to_payload() != pointer.to_payload():
        registry.store.put(own_key, pointer.to_bytes())
        repair.mended.append(
            f"The journal's record of generation {pointer.generation} was missing, forged or "
            "damaged: it is that of the pointer again."
        )
    for key in list(registry.store.list_names(object_keys.journal_prefix(model, channel))):
        if key > own_key and find_record(registry, key, model, channel) is None:
            registry.store.delete(key)
            repair.mended.append(
                f"{key} is above the pointer, and no trusted key signed it: it is deleted."
            )


def find_record(registry: Registry, key: str, model: str, channel: str) -> ChannelPointer | None:
    """Return the record under a key of the journal; None if there is none that is believed."""
    try:
        return channel_pointer.read_record(
            registry, model, channel, object_keys.parse_generation(key)
        )
    except RetryableError:
        raise
    except StageError:
        return None
