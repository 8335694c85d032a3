"""The highest generation of each channel that this machine has seen.

An old pointer is signed as well as a new one. Whoever may write to the bucket could put it back, so
a reader refuses a generation below one that it has seen.
"""

from pathlib import Path

from pydantic import ValidationError

from tasks.contracts.base import Record
from tasks.contracts.channel_pointer import ChannelPointer
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import files
from tasks.storage.locks import file_lock


class SeenGeneration(Record):
    """The newest pointer of a channel that was seen."""

    generation: int
    promotion_id: str


def seen_path(registry: Registry, model: str, channel: str) -> Path:
    """Return the file that says which generation of a channel was seen."""
    return registry.seen / model / f"{channel}.json"


def read_seen(registry: Registry, model: str, channel: str) -> SeenGeneration | None:
    """Return the newest generation that was seen; None if none was, or the file is damaged."""
    path = seen_path(registry, model, channel)
    if not path.is_file():
        return None
    try:
        return SeenGeneration.model_validate_json(path.read_bytes())
    except ValidationError:
        return None


def check_and_record(registry: Registry, pointer: ChannelPointer) -> None:
    """Check that a pointer is not older than one that was seen, and remember it.

    Raises:
        UntrustedError: It is older, or another one of the same generation was seen.
    """
    path = seen_path(registry, pointer.model, pointer.channel)
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_suffix(".lock")):
        fault = describe_replay(registry, pointer)
        if fault:
            raise UntrustedError(fault)
        seen = SeenGeneration(generation=pointer.generation, promotion_id=pointer.promotion_id)
        if seen != read_seen(registry, pointer.model, pointer.channel):
            files.write_json(path, seen.model_dump())


def describe_replay(registry: Registry, pointer: ChannelPointer) -> str:
    """Return what speaks against a pointer that is signed; empty if nothing does."""
    seen = read_seen(registry, pointer.model, pointer.channel)
    if seen is None:
        return ""
    name = f"{registry.address}: {pointer.model} {pointer.channel}"
    cure = (
        "If the bucket was restored from a backup on purpose, delete "
        f"{seen_path(registry, pointer.model, pointer.channel)}; else see `millrace doctor "
        f"--repair {pointer.model}`."
    )
    if pointer.generation < seen.generation:
        return (
            f"{name} names generation {pointer.generation}, but this machine has seen generation "
            f"{seen.generation}: an old pointer was put back; it is not believed. {cure}"
        )
    is_same = pointer.promotion_id == seen.promotion_id
    if pointer.generation == seen.generation and not is_same:
        return (
            f"{name} names another promotion as generation {pointer.generation} than this machine "
            f"has seen; it is not believed. {cure}"
        )
    return ""
