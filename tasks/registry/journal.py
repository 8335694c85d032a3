"""The journal of a channel: a record for each promotion."""

import json

from tasks.contracts.channel_pointer import ChannelPointer
from tasks.registry import channel_pointer, object_keys
from tasks.storage.object_store import ObjectStore


def read_history(store: ObjectStore, model: str, channel: str) -> list[ChannelPointer]:
    """Return every promotion of a channel, newest first.

    The pointer itself stands in for a journal record that is not written yet.
    """
    records: dict[int, ChannelPointer] = {}
    pointer = channel_pointer.read_pointer(store, model, channel)
    if pointer:
        records[pointer.generation] = pointer.record
    for key in store.list_names(object_keys.journal_prefix(model, channel)):
        stored = store.get(key)
        if stored:
            record = ChannelPointer.parse(json.loads(stored[0]), f"{store.settings.address}: {key}")
            records[record.generation] = record
    return [records[generation] for generation in sorted(records, reverse=True)]
