"""`millrace doctor` on the embedded store, and a run on a store that cannot be relied on."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import cli, embedded_s3, registry_access
from tasks.core.errors import StageError
from tasks.storage import conditional_probes
from tasks.storage.object_store import ObjectStore
from tests.storage import s3_answers


@pytest.fixture(autouse=True)
def unconfigured(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MILLRACE_S3_BUCKET", "MILLRACE_S3_ENDPOINT", "MILLRACE_KEYS"):
        monkeypatch.delenv(name, raising=False)


def test_the_embedded_store_passes_and_is_remembered() -> None:
    done = CliRunner().invoke(cli.main, ["doctor", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    results = json.loads(done.output)
    assert {result["state"] for result in results} == {"ok"}
    assert results[0]["name"] == "race just after a start"
    assert [path.suffix for path in conditional_probes.PASSED_FOLDER.iterdir()] == [".json"]
    with embedded_s3.open_store() as store:
        assert list(store.list_names("")) == []
        assert conditional_probes.is_recent(conditional_probes.passed_path(store))


def test_a_store_that_fails_is_a_table_and_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_S3_BUCKET", "models")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    with s3_answers.serve(s3_answers.refusal("ExpiredToken", 400)) as served:
        monkeypatch.setenv("MILLRACE_S3_ENDPOINT", served.endpoint)
        done = CliRunner().invoke(cli.main, ["doctor"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "hidden-secret" not in done.output
    [line] = [line for line in done.output.splitlines() if line.split()[:1] == ["credentials"]]
    assert line.split()[1] == "failed"


def test_nothing_is_opened_for_signing_that_ignores_conditions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_if_match = ObjectStore.put_if_match

    def write_anyway(store: ObjectStore, name: str, data: bytes, etag: str | None) -> bool:
        if not put_if_match(store, name, data, etag):
            store.put(name, data)
        return True

    monkeypatch.setattr(ObjectStore, "put_if_match", write_anyway)
    sentence = r"does not honour conditional writes \(a write that may only create"
    with (
        pytest.raises(StageError, match=sentence),
        registry_access.open_registry_for_signing(lambda line: None),
    ):
        pass
