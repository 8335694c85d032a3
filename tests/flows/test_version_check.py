"""A version is validated in a process that has the bucket alone; however it ends is a verdict."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import registry_access, version_check
from tasks.contracts.manifest import GOLDEN
from tasks.core.errors import RetryableError
from tasks.evaluation import golden
from tasks.recipe.promote import Promote
from tasks.registry import manifests, object_keys
from tasks.registry.registry import Registry
from tests import tiny
from tests.registry import examples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a version."""
    root = tmp_path_factory.mktemp("tabular")
    context = tiny.case("tabular", root)
    target = Path(shutil.copytree(context.model.path, root / "version"))
    golden.write_golden_requests(target / GOLDEN, context)
    return target


@pytest.fixture
def registry(here: Path) -> Iterator[Registry]:
    """The registry in the embedded store of an empty folder, as a run opens it."""
    with registry_access.open_registry_for_signing(print) as opened:
        yield opened


def test_a_version_is_fetched_verified_and_asked(registry: Registry, folder: Path) -> None:
    manifest = examples.manifest_of("tiny", folder)
    provenance = examples.provenance(manifest)
    version = manifests.publish_version(registry, folder, manifest, provenance)
    result = version_check.run_validation("tiny", version, Promote())
    assert (result.verdict, result.max_deviation) == ("pass", 0.0), result.reason
    too_slow = version_check.run_validation("tiny", version, Promote(latency_ms=1e-6))
    assert "The model is too slow" in too_slow.reason
    registry.store.put(object_keys.blob_key(manifest.files[GOLDEN].sha256), b"PAR1")
    damaged = version_check.run_validation("tiny", version, Promote())
    assert damaged.verdict == "fail"
    assert GOLDEN in damaged.reason
    with pytest.raises(version_check.InvalidVersionError, match="Nothing was moved"):
        version_check.require_valid("tiny", "0" * 16, Promote())


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "it printed nothing.*killed, possibly for want of memory"),
        (["terminate called"], "terminate called.*or the runtime aborted"),
        (["Timeout (0:05:00)!", "Thread 0x01"], "does not answer within 300 s: it hangs"),
    ],
)
def test_a_process_without_a_verdict_is_told(lines: list[str], sentence: str) -> None:
    assert re.search(sentence, version_check.describe_crash(lines))


def test_a_store_that_cannot_be_reached_is_no_verdict() -> None:
    with pytest.raises(RetryableError, match="the store is away"):
        version_check.describe_crash(["retryable: the store is away"])
