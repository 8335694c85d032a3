"""Evidence in the store: verdicts that were reached once, and the numbers of comparisons."""

import itertools
import json

from tasks.contracts.evidence import Evidence
from tasks.registry import object_keys
from tasks.storage import files, object_store
from tasks.storage.object_store import ObjectStore


def read_evidence(
    store: ObjectStore, model: str, version: str, champion: str | None
) -> Evidence | None:
    """Read the gate's verdict on a version against a champion; None if there is none yet."""
    key = object_keys.evidence_key(model, version, champion)
    stored = store.get(key)
    if stored is None:
        return None
    return Evidence.parse(json.loads(stored[0]), f"{store.settings.address}: {key}")


def claim_comparison_number(store: ObjectStore, model: str, version: str, champion: str) -> int:
    """Return the number of the version's comparison with this champion.

    It is the first number that no other version has claimed, and the same whenever it is asked
    for again.
    """
    claim = files.encode_json({"version": version})
    for number in itertools.count(1):
        key = object_keys.comparison_key(model, champion, number)
        if object_store.create_or_get(store, key, claim) == claim:
            return number
    raise AssertionError("itertools.count never ends")
