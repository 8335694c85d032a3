"""Publishing and fetching 1 GB against `rclone copy` and `rclone check --download`.

Each round does all of it on the same embedded server; who begins alternates.

make bench ARGS="-k transfer"
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tasks.registry import manifests, object_keys
from tasks.registry.registry import Registry
from tests.registry import examples

RCLONE = Path(sys.executable).with_name("rclone")
ROUNDS = 3
MEGABYTE = 1_000_000
SIZES = {"model.safetensors": 700, "adapter/model.safetensors": 299, "model.txt": 1}  # MB


def test_publishing_and_fetching_keep_up_with_rclone(registry: Registry, tmp_path: Path) -> None:
    folder, cache, copy = (tmp_path / name for name in ("model", "cache", "copy"))
    write_model(folder)
    manifest = examples.manifest_of("large", folder)
    remote = f"store:{registry.store.settings.bucket}/compared"

    def publish_ours() -> None:
        hashed = examples.manifest_of("large", folder)
        manifests.publish_version(registry, folder, hashed, examples.provenance(hashed))

    def publish_theirs() -> None:
        rclone(registry, "copy", str(folder), remote)
        rclone(registry, "check", "--download", str(folder), remote)

    def fetch_ours() -> None:
        manifests.fetch_version(registry, "large", manifest.version, cache)

    def fetch_theirs() -> None:
        rclone(registry, "copy", remote, str(copy))

    pairs = {"publish": (publish_ours, publish_theirs), "fetch": (fetch_ours, fetch_theirs)}
    ratios: dict[str, list[float]] = {name: [] for name in pairs}
    for number in range(ROUNDS):
        for name, (ours, theirs) in pairs.items():
            ratios[name].append(compare(name, ours, theirs, theirs_first=bool(number % 2)))
        assert read_sizes(copy) == read_sizes(cache / manifest.version) == read_sizes(folder)
        rclone(registry, "purge", remote)
        for file in manifest.files.values():
            registry.store.delete(object_keys.blob_key(file.sha256))
        shutil.rmtree(copy)
        shutil.rmtree(cache)
    for name, values in ratios.items():
        print(f"{name}: {statistics.median(values):.2f} times rclone's speed (median)")


def write_model(folder: Path) -> None:
    """Write files of random numbers."""
    for name, size in SIZES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_bytes(os.urandom(size * MEGABYTE // 2).hex().encode())
            continue
        length = size * MEGABYTE
        tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
        header = json.dumps({"weights": tensor}).encode()
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for _ in range(size):
                file.write(os.urandom(MEGABYTE))


def rclone(registry: Registry, *words: str) -> None:
    """Run rclone on the server."""
    settings = registry.store.settings
    variables = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_STORE_TYPE": "s3",
        "RCLONE_CONFIG_STORE_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_STORE_ENDPOINT": str(settings.endpoint),
        "RCLONE_CONFIG_STORE_ACCESS_KEY_ID": str(settings.key),
        "RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY": str(settings.secret),
        "RCLONE_S3_NO_CHECK_BUCKET": "true",
    }
    done = subprocess.run(
        [RCLONE, *words], env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def compare(
    name: str, ours: Callable[[], None], theirs: Callable[[], None], *, theirs_first: bool
) -> float:
    """Return how many times as fast as theirs ours is, and print both."""
    seconds = {}
    for step in (theirs, ours) if theirs_first else (ours, theirs):
        os.sync()
        begun = time.perf_counter()
        step()
        seconds[step] = time.perf_counter() - begun
    ratio = seconds[theirs] / seconds[ours]
    print(f"{name}: {seconds[ours]:.1f} s, rclone {seconds[theirs]:.1f} s: {ratio:.2f}x")
    return ratio


def read_sizes(folder: Path) -> dict[str, int]:
    """The size of each file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
