"""Files of versions on their way to a real S3 server and back: in parts, resumed and verified."""

import itertools
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import StageError
from tasks.registry import manifests, object_keys
from tasks.registry.registry import Registry
from tasks.storage import transfer
from tasks.storage.transfer import ObjectPart
from tasks.telemetry import progress
from tests.registry import examples

PART_BYTES = 5 << 20  # the least that S3 allows
LARGE = "large.txt"
SMALL = "small.txt"
LINE = 128


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def requested(monkeypatch: pytest.MonkeyPatch) -> list[ObjectPart]:
    """The parts that were fetched; they are small."""
    noted: list[ObjectPart] = []
    read_part = transfer.read_part

    def note_part(store: Any, part: ObjectPart) -> bytes | None:
        noted.append(part)
        return read_part(store, part)

    monkeypatch.setattr(transfer, "PART_BYTES", PART_BYTES)
    monkeypatch.setattr(transfer, "read_part", note_part)
    return noted


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a file of three parts and a small one, different in each test."""
    folder = tmp_path / "model"
    folder.mkdir()
    lines = [f"{secrets.token_hex(8)}{number:{LINE - 17}}\n" for number in range(1000)]
    text = "".join(lines) * (5 * PART_BYTES // 2 // LINE // 1000)
    (folder / LARGE).write_text(text)
    (folder / SMALL).write_text(lines[0])
    return folder


def publish(registry: Registry, folder: Path, name: str = "large") -> str:
    manifest = examples.manifest_of(name, folder)
    return manifests.publish_version(registry, folder, manifest, examples.provenance(manifest))


def blob(registry: Registry, version: str, name: str) -> str:
    """The key of a file's content."""
    manifest = manifests.read_manifest(registry, "large", version)
    return object_keys.blob_key(manifest.files[name].sha256)


def read_files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_version_comes_back_as_it_was_with_files_that_everybody_may_read(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    (model / SMALL).chmod(0o600)
    version = publish(registry, model)
    fetched = manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert read_files(fetched) == read_files(model)
    (fetched / LARGE).chmod(0o600)
    manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert {path.stat().st_mode & 0o777 for path in fetched.iterdir()} == {0o644}


def test_a_content_is_uploaded_once_for_all_models(
    registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "copy.txt").write_bytes((model / SMALL).read_bytes())
    uploads: list[str] = []
    upload = transfer.upload

    def note_upload(store: Any, name: str, path: Path, *rest: Any) -> None:
        uploads.append(path.name)
        upload(store, name, path, *rest)

    monkeypatch.setattr(transfer, "upload", note_upload)
    publish(registry, model)
    publish(registry, model, "another")
    assert len(uploads) == 2
    assert LARGE in uploads


def test_a_fetch_that_was_killed_goes_on_where_it_was(
    registry: Registry,
    model: Path,
    tmp_path: Path,
    requested: list[ObjectPart],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    version = publish(registry, model)
    read_part = transfer.read_part

    def die_at_last_part(store: Any, part: ObjectPart) -> bytes | None:
        if part.start == 2 * PART_BYTES:
            raise Killed
        return read_part(store, part)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(transfer, "read_part", die_at_last_part)
        manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert not (tmp_path / "cache" / version / LARGE).exists()
    requested.clear()
    fetched = manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert read_files(fetched) == read_files(model)
    large = [part.start for part in requested if part.name == blob(registry, version, LARGE)]
    assert large == [2 * PART_BYTES]
    requested.clear()
    manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert requested == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"x" * 100,
        lambda content: content[: PART_BYTES + 7],
        lambda content: content[:99] + b"x" + content[100:],
        lambda content: content + b"x",
    ],
    ids=["other", "less than a part", "as long", "longer"],
)
def test_whatever_a_killed_fetch_has_left_the_files_are_right_in_the_end(
    registry: Registry, model: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    version = publish(registry, model)
    target = tmp_path / "cache" / version
    target.mkdir(parents=True)
    digest = blob(registry, version, LARGE).rpartition("/")[2]
    left = target / f".{LARGE}.{digest[:16]}.part"
    left.write_bytes(damage((model / LARGE).read_bytes()))
    manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert read_files(target) == read_files(model)


def test_fetches_of_one_version_at_once_do_not_disturb_each_other(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = publish(registry, model)

    def fetch(_: int) -> Path:
        return manifests.fetch_version(registry, "large", version, tmp_path / "cache")

    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(fetch, range(4)))
    [folder] = folders
    assert read_files(folder) == read_files(model)


def flip_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def truncate(content: bytes) -> bytes:
    return content[:-1]


def extend(content: bytes) -> bytes:
    return content + b"x"


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        (LARGE, flip_bit, "does not have the bytes that its manifest names: it was damaged"),
        (LARGE, truncate, r"has [\d,]+ of [\d,]+ bytes: it was cut off or tampered with"),
        (SMALL, extend, "has 129 of 128 bytes"),
        (SMALL, empty, "has 0 of 128 bytes"),
        (SMALL, None, "is missing: its object blobs/sha256/[0-9a-f]+ was deleted"),
    ],
)
def test_a_damaged_object_is_refused_and_leaves_no_file(
    registry: Registry,
    model: Path,
    tmp_path: Path,
    name: str,
    damage: Callable[[bytes], bytes] | None,
    sentence: str,
) -> None:
    version = publish(registry, model)
    key = blob(registry, version, name)
    if damage is None:
        registry.store.delete(key)
    else:
        registry.store.put(key, damage((model / name).read_bytes()))
    with pytest.raises(StageError, match=f"{name} of large {version} {sentence}"):
        manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert not (tmp_path / "cache" / version / name).exists()

    publish(registry, model)  # which repairs it
    fetched = manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert read_files(fetched) == read_files(model)


def test_one_flipped_bit_in_any_file_of_a_version_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    names = ["model.json", "model.onnx", "model.onnx.data", "model.safetensors", "notes.md"]
    for name in names:
        (tmp_path / name).write_text(secrets.token_hex(20))
    version = publish(registry, tmp_path)
    for name in names:
        key = blob(registry, version, name)
        good = registry.store.get(key)
        assert good
        registry.store.put(key, flip_bit(good[0]))
        with pytest.raises(StageError, match=f"{name} of large {version} does not have the bytes"):
            manifests.fetch_version(registry, "large", version, tmp_path / "cache")
        assert not (tmp_path / "cache" / version / name).exists()
        registry.store.put(key, good[0])


def test_a_part_is_fetched_again_if_its_connection_is_lost(
    registry: Registry, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ConnectionClosedError

    version = publish(registry, model)
    get = registry.store.client.get_object
    numbers = itertools.count()

    def lose_every_second(**arguments: Any) -> Any:
        if next(numbers) % 2 and "/blobs/" in arguments["Key"]:
            raise ConnectionClosedError(endpoint_url="http://127.0.0.1")
        return get(**arguments)

    monkeypatch.setattr(registry.store.client, "get_object", lose_every_second)
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", 0)
    monkeypatch.setattr(transfer, "ATTEMPTS", 20)
    fetched = manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    assert read_files(fetched) == read_files(model)


def test_a_folder_that_cannot_be_written_is_one_sentence(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    version = publish(registry, model)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / version).write_text("no folder")
    with pytest.raises(StageError, match=r"cannot be written \(.*\): free space there, or"):
        manifests.fetch_version(registry, "large", version, tmp_path / "cache")


def test_a_long_transfer_shows_how_far_it_is(
    registry: Registry,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0.0)
    version = publish(registry, model)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"publishing large {version}  13/13 MB  ")
    manifests.fetch_version(registry, "large", version, tmp_path / "cache")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"fetching large {version}  13/13 MB  ")
    assert lines[-1].endswith(" MB/s  0 s left")
