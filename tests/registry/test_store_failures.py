"""A store that fails in the middle: one sentence, nothing half done, and a rerun completes."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows import embedded_s3, server_secrets
from tasks.core.errors import RetryableError, StageError
from tasks.registry import channel_pointer, manifests
from tasks.registry.registry import Registry
from tasks.storage import files, s3_client, transfer
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_settings import StoreSettings
from tasks.storage.transfer import ObjectPart
from tasks.telemetry.transfer_progress import TransferProgress
from tests.conftest import open_as_machine
from tests.registry import examples
from tests.storage import s3_answers

PART_BYTES = 5 << 20
SECRET = "hidden-secret"
MODEL = "survivor"


class Server:
    """The embedded server, which can fail and come back with the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: psutil.Popen | None = None

    def start(self) -> Registry:
        """Start the server; return the registry in it."""
        self.process, store = embedded_s3.start_server()
        embedded_s3.create_bucket(store)
        self.registry = open_as_machine(store, self.folder / "machine")
        return self.registry

    def fail(self, failure: str) -> None:
        """Be killed, or hang. Several threads may ask for it."""
        assert self.process
        with contextlib.suppress(psutil.NoSuchProcess):
            if failure == "killed":
                self.process.kill()
            else:
                self.process.suspend()

    def come_back(self) -> Registry:
        """Go on, or start again; return the registry."""
        assert self.process
        if self.process.status() == psutil.STATUS_STOPPED:
            self.process.resume()
            return self.registry
        self.process.wait()
        return self.start()

    def stop(self) -> None:
        """Stop it, whatever it does."""
        if self.process and self.process.is_running():
            self.process.resume()
            embedded_s3.stop_server(self.process)


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server_secrets.SERVER_FOLDER.mkdir(parents=True)
    monkeypatch.setattr(transfer, "PART_BYTES", PART_BYTES)
    started = Server(here)
    yield started
    started.stop()


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [("killed", "cannot be reached"), ("hung", "does not answer in time")],
)
def test_a_server_that_fails_in_the_middle_is_a_sentence_and_a_rerun_completes(
    server: Server, here: Path, monkeypatch: pytest.MonkeyPatch, failure: str, sentence: str
) -> None:
    registry = server.start()
    first = examples.publish(registry, MODEL, here / "first", "first")
    assert examples.promote(registry, MODEL, first, None).won
    content = "second\n" * (3 * PART_BYTES // 7)
    read_part = transfer.read_part

    def fail_on_bytes(progress: TransferProgress, count: int) -> None:
        server.fail(failure)

    def fail_on_second_part(store: ObjectStore, part: ObjectPart) -> bytes | None:
        if part.start == PART_BYTES:
            server.fail(failure)
        return read_part(store, part)

    with monkeypatch.context() as patch, pytest.raises(RetryableError, match=sentence):
        patch.setattr(TransferProgress, "add", fail_on_bytes)
        be_impatient(patch)
        examples.publish(reopen(registry), MODEL, here / "second", content)
    registry = server.come_back()
    current = channel_pointer.read_pointer(registry, MODEL, examples.CHANNEL)
    assert current
    assert current.version == first
    assert manifests.list_versions(registry, MODEL) == [first]
    second = examples.publish(registry, MODEL, here / "second", content)
    assert examples.promote(registry, MODEL, second, current).won

    with monkeypatch.context() as patch, pytest.raises(RetryableError, match=sentence):
        patch.setattr(transfer, "read_part", fail_on_second_part)
        be_impatient(patch)
        manifests.fetch_version(reopen(registry), MODEL, second, here / "cache")
    folder = manifests.fetch_version(server.come_back(), MODEL, second, here / "cache")
    assert (folder / "model.txt").read_text() == content


def be_impatient(patch: pytest.MonkeyPatch) -> None:
    """Let clients that are made from now on wait a second at most."""
    patch.setattr(s3_client, "CONNECT_SECONDS", 1)
    patch.setattr(s3_client, "READ_SECONDS", 1)


def reopen(registry: Registry, **changed: str) -> Registry:
    """The registry with a client of its own, whose settings may be others."""
    settings = registry.store.settings._replace(**changed)  # type: ignore[arg-type]
    return Registry(ObjectStore(settings), registry.keyring, registry.seen)


def test_credentials_that_do_not_suffice_publish_nothing(server: Server, here: Path) -> None:
    administrator, _ = server_secrets.load_or_create_credentials()
    identities = json.loads(server_secrets.CREDENTIALS_FILE.read_text())["identities"]
    identities.append(
        {
            "name": "reader",
            "credentials": [{"accessKey": "reader-key", "secretKey": SECRET}],
            "actions": ["Read:millrace", "List:millrace"],
        }
    )
    files.write_private(
        server_secrets.CREDENTIALS_FILE, files.encode_json({"identities": identities})
    )
    registry = server.start()
    version = examples.publish(registry, MODEL, here / "first", "first")
    cases: list[tuple[dict[str, str], str]] = [
        ({"key": "reader-key"}, "AccessDenied for PutObject"),
        ({"key": "unknown-key"}, "InvalidAccessKeyId"),
        ({"key": administrator}, "SignatureDoesNotMatch"),
        ({"bucket": "nowhere"}, "the bucket 'nowhere' is not theirs"),
    ]
    for changed, sentence in cases:
        other = reopen(registry, **{"secret": SECRET, "key": "reader-key"} | changed)
        with pytest.raises(StageError, match=sentence) as caught:
            examples.publish(other, MODEL, here / "second", "second")
        assert SECRET not in str(caught.value)
    assert manifests.list_versions(registry, MODEL) == [version]


def test_credentials_that_have_expired_are_a_sentence(registry: Registry, tmp_path: Path) -> None:
    with s3_answers.serve(s3_answers.refusal("ExpiredToken", 400)) as served:
        settings = StoreSettings("models", endpoint=served.endpoint, key="key", secret=SECRET)
        other = Registry(ObjectStore(settings), registry.keyring, registry.seen)
        with pytest.raises(StageError, match=r"have expired .ExpiredToken.: get new ones"):
            examples.publish(other, MODEL, tmp_path, "model")
