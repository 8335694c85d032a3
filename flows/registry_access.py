"""The registry that a command or a run uses: the store, with the keys of this machine."""

import contextlib
from collections.abc import Callable, Iterator

from flows import embedded_s3
from tasks.registry import keys, registry
from tasks.registry.registry import Registry
from tasks.storage import conditional_probes


@contextlib.contextmanager
def open_registry() -> Iterator[Registry]:
    """Open the store that is configured, or the embedded one, to read what is signed."""
    with embedded_s3.open_store() as store:
        yield registry.open_registry(store)


@contextlib.contextmanager
def open_registry_for_signing(say: Callable[[str], None]) -> Iterator[Registry]:
    """Open the registry to publish; on a machine without any key, make a pair and say so.

    Args:
        say: What tells people that a pair was made.

    Raises:
        StageError: The store cannot be used, or does not honour conditional writes.
    """
    folder = keys.default_folder()
    keyring, is_new = keys.load_or_create_keyring(folder)
    if is_new:
        say(
            f"Made a key pair to sign models with: the private key is {keys.signing_path(folder)} "
            f"(keep it), the public key {', '.join(keyring.trusted)} is trusted here."
        )
    with embedded_s3.open_store() as store:
        conditional_probes.require_conditional_writes(store)
        yield registry.open_registry(store)
