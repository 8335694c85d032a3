"""The registry as the other modules use it: the bucket, and the keys by which it is believed."""

from dataclasses import dataclass
from pathlib import Path

from tasks.registry import keys
from tasks.registry.keys import Keyring
from tasks.storage.layout import shared_path
from tasks.storage.object_store import ObjectStore

SEEN_FOLDER = ".millrace/seen"


@dataclass(frozen=True)
class Registry:
    """A bucket whose objects are believed only by their signatures.

    Attributes:
        store: The bucket.
        keyring: The keys of this machine.
        seen: The folder in which this machine keeps the highest generation of each channel that it
            has seen.
    """

    store: ObjectStore
    keyring: Keyring
    seen: Path

    @property
    def address(self) -> str:
        """Where the bucket is, for messages."""
        return self.store.settings.address


def open_registry(store: ObjectStore) -> Registry:
    """Return the registry in a bucket, with the keys of this machine."""
    return Registry(
        store=store,
        keyring=keys.load_keyring(keys.default_folder()),
        seen=shared_path(SEEN_FOLDER) / store.identity,
    )
