"""The journal of a channel: a record for each move, and whether it agrees with the pointer."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.core.errors import RetryableError, StageError
from tasks.registry import channel_pointer, manifests, object_keys, seen_generations
from tasks.registry.channel_pointer import CurrentPointer
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import hashing

READ_THREADS = 16  # a journal has a record for each move


@dataclass(frozen=True)
class History:
    """What is known of a channel.

    Attributes:
        current: The pointer; None if nothing was promoted, or the pointer cannot be believed.
        records: Every move that is signed, newest first. The pointer stands in for a record that
            is not written yet.
        faults: What does not fit together, or cannot be believed.
    """

    current: CurrentPointer | None
    records: list[ChannelPointer]
    faults: list[str]


def read_history(registry: Registry, model: str, channel: str) -> History:
    """Read pointer and journal of a channel, and check each against the other.

    What cannot be believed is a fault of the history, not an error: the rest is still told.
    """
    faults: list[str] = []
    records = read_records(registry, model, channel, faults)
    current = read_current(registry, model, channel, faults)
    faults += compare_with_records(registry, model, channel, current, records)
    if current:
        records.setdefault(current.generation, current.record)
    faults += find_gaps(registry, model, channel, records)
    newest_first = [records[generation] for generation in sorted(records, reverse=True)]
    return History(current, newest_first, faults)


def read_records(
    registry: Registry, model: str, channel: str, faults: list[str]
) -> dict[int, ChannelPointer]:
    """Return the journal's records by generation; add to `faults` those that are not believed."""
    read = partial(read_record_or_fault, registry, model, channel)
    keys = registry.store.list_names(object_keys.journal_prefix(model, channel))
    records = {}
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for record in pool.map(read, keys):
            if isinstance(record, str):
                faults.append(record)
            elif record:
                records[record.generation] = record
    return records


def read_record_or_fault(
    registry: Registry, model: str, channel: str, key: str
) -> ChannelPointer | str | None:
    """Return the record under a key of the journal, or why it is not believed.

    None if it was deleted meanwhile.
    """
    generation = object_keys.parse_generation(key)
    if key != object_keys.journal_key(model, channel, generation):
        return f"{registry.address}: {key} is no name of a record."
    try:
        return channel_pointer.read_record(registry, model, channel, generation)
    except RetryableError:
        raise
    except StageError as error:
        return str(error)


def read_current(
    registry: Registry, model: str, channel: str, faults: list[str]
) -> CurrentPointer | None:
    """Return the channel's pointer; None, and an entry in `faults`, if it is not believed."""
    try:
        return channel_pointer.read_pointer(registry, model, channel)
    except RetryableError:
        raise
    except StageError as error:
        faults.append(str(error))
        return None


def compare_with_records(
    registry: Registry,
    model: str,
    channel: str,
    current: CurrentPointer | None,
    records: dict[int, ChannelPointer],
) -> list[str]:
    """Return what the pointer and the journal disagree on."""
    if current is None:
        return []
    name = f"{registry.address}: {object_keys.channel_key(model, channel)}"
    faults = []
    if current.etag is None:
        faults.append(
            f"{name} is lost; the last record of the journal stands in for it. `millrace doctor "
            f"--repair {model}` writes it again."
        )
    record = records.get(current.generation)
    if record and record.promotion_id != current.record.promotion_id:
        faults.append(
            f"{name} is not the promotion that the journal records as generation "
            f"{current.generation}."
        )
    later = [generation for generation in records if generation > current.generation]
    if later:
        faults.append(
            f"{name} names generation {current.generation}, but the journal holds generation "
            f"{max(later)}: an old pointer was put back. `millrace doctor --repair {model}` "
            "restores the last one."
        )
    return faults


def find_gaps(
    registry: Registry, model: str, channel: str, records: dict[int, ChannelPointer]
) -> list[str]:
    """Return a sentence if records of the journal are missing, at its end too."""
    seen = seen_generations.read_seen(registry, model, channel)
    last = max([*records, seen.generation if seen else 0])
    missing = [generation for generation in range(1, last + 1) if generation not in records]
    if not missing:
        return []
    numbers = ", ".join(str(generation) for generation in missing)
    return [
        f"{registry.address}: the journal of {model} {channel} has no record that can be believed "
        f"of generation {numbers}: deleted, damaged, or signed by a key that is not trusted."
    ]


def read_data_hashes(
    registry: Registry, records: Sequence[ChannelPointer]
) -> dict[str, str | None]:
    """Return for each version one hash of all data that it was made from.

    None if its manifest cannot be believed.
    """
    hashes: dict[str, str | None] = {}
    for record in records:
        if record.version in hashes:
            continue
        try:
            manifest = manifests.read_manifest(registry, record.model, record.version)
        except UntrustedError:
            hashes[record.version] = None
        else:
            hashes[record.version] = hashing.hash_json(manifest.data)
    return hashes
