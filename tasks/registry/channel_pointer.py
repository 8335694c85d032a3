"""The pointer of a channel, which says what is in production.

Everything else in the registry is written once. The pointer moves by compare-and-swap on its
ETag. An ETag is a hash of content, so a pointer that came back to old bytes would let a stale
writer pass; each pointer therefore holds a random promotion id, and no two are equal.
"""

from dataclasses import dataclass

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.core.errors import StageError
from tasks.registry import object_keys, seen_generations, signing
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError


@dataclass(frozen=True)
class CurrentPointer:
    """A pointer as it lies in the store.

    Attributes:
        record: What it says.
        etag: What a compare-and-swap presents; None if the object is lost, and the last record of
            the journal stands in for it.
    """

    record: ChannelPointer
    etag: str | None

    @property
    def generation(self) -> int:
        """The number of the move that wrote it."""
        return self.record.generation

    @property
    def version(self) -> str:
        """The version that is in production."""
        return self.record.version


def read_pointer(registry: Registry, model: str, channel: str) -> CurrentPointer | None:
    """Read the channel's pointer; None if nothing was promoted yet.

    If the object is lost, the last record of the journal stands in for it: a lost pointer must not
    look like a channel to which nothing was promoted.

    Raises:
        StageError: The object is not a pointer.
        UntrustedError: It is not signed by a trusted key, or is older than one that was seen.
    """
    stored = registry.store.get(object_keys.channel_key(model, channel))
    if stored is None:
        current = read_lost_pointer(registry, model, channel)
    else:
        data, etag = stored
        current = CurrentPointer(parse_pointer(registry, data, model, channel), etag)
    if current:
        seen_generations.check_and_record(registry, current.record)
    return current


def parse_pointer(registry: Registry, data: bytes, model: str, channel: str) -> ChannelPointer:
    """Check the bytes of a channel's pointer, and return what they say."""
    return parse_record(registry, data, object_keys.channel_key(model, channel), model, channel)


def read_lost_pointer(registry: Registry, model: str, channel: str) -> CurrentPointer | None:
    """Return the last record of the journal in place of a lost pointer; None without records.

    Raises:
        UntrustedError: The last record is no signed record, or this machine has seen a pointer
            of which no record is left.
    """
    prefix = object_keys.journal_prefix(model, channel)
    keys = list(registry.store.list_names(prefix))
    if not keys:
        require_never_seen(registry, model, channel)
        return None
    generation = object_keys.parse_generation(keys[-1])
    record = read_record(registry, model, channel, generation)
    return CurrentPointer(record, None) if record else None


def require_never_seen(registry: Registry, model: str, channel: str) -> None:
    """Raise UntrustedError if this machine has seen a pointer of a channel that has none."""
    seen = seen_generations.read_seen(registry, model, channel)
    if seen:
        path = seen_generations.seen_path(registry, model, channel)
        raise UntrustedError(
            f"{registry.address}: the pointer of {model} {channel} and its journal are gone, but "
            f"this machine has seen generation {seen.generation}. Restore the bucket; if it was "
            f"emptied on purpose, delete {path}."
        )


def read_record(
    registry: Registry, model: str, channel: str, generation: int
) -> ChannelPointer | None:
    """Read the journal's record of one move; None without one.

    Raises:
        StageError: The object is not a record of this move.
        UntrustedError: It is not signed by a trusted key.
    """
    key = object_keys.journal_key(model, channel, generation)
    stored = registry.store.get(key)
    if stored is None:
        return None
    record = parse_record(registry, stored[0], key, model, channel)
    if record.generation != generation:
        raise UntrustedError(
            f"{registry.address}: {key} holds the record of generation {record.generation}: it "
            "was copied there; it is not believed."
        )
    return record


def parse_record(
    registry: Registry, data: bytes, key: str, model: str, channel: str
) -> ChannelPointer:
    """Check the bytes of a pointer or of a journal's record, and return what they say.

    Raises:
        StageError: They are no pointer.
        UntrustedError: They are of another channel, or not signed by a trusted key.
    """
    record = parse_unsigned_record(registry, data, key, model, channel)
    signing.verify_contract(registry.keyring, record, f"{registry.address}: {key}")
    return record


def parse_unsigned_record(
    registry: Registry, data: bytes, key: str, model: str, channel: str
) -> ChannelPointer:
    """Check the bytes of a pointer or of a record, but for their signature."""
    name = f"{registry.address}: {key}"
    record = ChannelPointer.parse_bytes(data, name)
    if (record.model, record.channel) != (model, channel):
        raise UntrustedError(
            f"{name} is a record of {record.model} {record.channel}: it was copied there; it is "
            "not believed."
        )
    return record


def require_pointer(registry: Registry, model: str, channel: str) -> CurrentPointer:
    """Read the channel's pointer.

    Raises:
        StageError: Nothing was promoted yet.
    """
    current = read_pointer(registry, model, channel)
    if current is None:
        raise StageError(
            f"{model}: nothing is in {channel} yet. `millrace run {model}` trains and judges a "
            "first model."
        )
    return current
