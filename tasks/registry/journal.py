"""Journal."""

import json
from typing import Any

from tasks.registry import channel_pointer
from tasks.storage.object_store import ObjectStore


def read_history(store: ObjectStore, model: str, channel: str) -> list[dict[str, Any]]:
    """Every move of the channel, newest first; the pointer itself stands in for a journal record that is not written yet."""
    pointer = channel_pointer.read_pointer(store, model, channel)
    found = [
        json.loads(data[0])
        for name in store.list_names(f"{model}/journal/{channel}/")
        if (data := store.get(name))
    ]
    records = {
        record["generation"]: record for record in ([pointer.record] if pointer else []) + found
    }
    return [records[generation] for generation in sorted(records, reverse=True)]
