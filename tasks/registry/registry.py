"""The registry as the other modules use it: the bucket, and the keys by which it is believed."""

from dataclasses import dataclass
from pathlib import Path

from tasks.registry import keys
from tasks.registry.keys import Keyring
from tasks.storage import hashing
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
    settings = store.settings
    identity = hashing.hash_json([settings.bucket, settings.prefix, settings_place(store)])
    return Registry(
        store=store,
        keyring=keys.load_keyring(keys.default_folder()),
        seen=shared_path(SEEN_FOLDER) / identity[:16],
    )


def settings_place(store: ObjectStore) -> str:
    """Return what tells the store's server from others.

    The embedded server's port changes with each start, and its objects lie in the workspace.
    """
    settings = store.settings
    if settings.lock:
        return str(settings.lock)
    return settings.endpoint or "aws"
