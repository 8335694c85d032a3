"""Gate evidence."""

import itertools
import json
from typing import Any

from tasks.registry import object_keys
from tasks.storage import files, object_store
from tasks.storage.object_store import ObjectStore


def recorded_verdict(
    store: ObjectStore, model: str, version: str, champion: str | None
) -> dict[str, Any] | None:
    """What the gate said of the version against this champion, if it has."""
    found = store.get(object_keys.evidence_key(model, version, champion))
    return json.loads(found[0]) if found else None


def claim_comparison_number(store: ObjectStore, model: str, version: str, champion: str) -> int:
    """The number of the version's comparison with this champion: the first that no other version has taken, and the same however often it is asked."""
    data = files.encode_json({"version": version})
    return next(
        number
        for number in itertools.count(1)
        if object_store.create_or_get(store, f"{model}/looks/{champion}/{number:06d}.json", data)
        == data
    )
