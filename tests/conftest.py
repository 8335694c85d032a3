"""Small real things that several tests use."""

import contextlib
import secrets
from collections.abc import Container, Iterator
from pathlib import Path

import pytest

from flows import embedded_s3
from tasks import sources
from tasks.registry import keys
from tasks.registry.registry import Registry
from tasks.sources import Source
from tasks.sources.base import RowBatch
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_settings import StoreSettings

ROOT = Path(__file__).parent.parent


def read_batches(source: Source, skip: Container[str] = ()) -> Iterator[RowBatch]:
    """Yield what the parts of a source give, but for those whose name is in `skip`."""
    for part in sources.iter_partitions(source):
        if part.name not in skip:
            yield from part.read()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    """A real S3 server on loopback, which all tests of this process share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("s3"))
        patch.delenv("MILLRACE_S3_BUCKET", raising=False)
        patch.delenv("MILLRACE_S3_ENDPOINT", raising=False)
        server = contextlib.ExitStack()
        opened = server.enter_context(embedded_s3.open_store())
        folder = Path.cwd()
    try:
        yield opened.settings
    finally:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            server.close()


@pytest.fixture(scope="module")
def store(s3_server: StoreSettings) -> ObjectStore:
    """A store of this module's own in that server: a part of its bucket."""
    return ObjectStore(s3_server._replace(prefix=f"test-{secrets.token_hex(4)}"))


@pytest.fixture(scope="module")
def registry(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """The registry in that server, on a machine with a key of its own."""
    folder = tmp_path_factory.mktemp("machine")
    return open_as_machine(store, folder)


def open_as_machine(store: ObjectStore, folder: Path) -> Registry:
    """The registry as a machine sees it whose keys and memory lie in a folder."""
    keyring, _ = keys.load_or_create_keyring(folder / "keys")
    return Registry(store=store, keyring=keyring, seen=folder / "seen")
