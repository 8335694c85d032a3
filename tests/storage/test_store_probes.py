"""The probes of a store: a good one passes, and each fault is told in its own line."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import embedded_s3, server_secrets
from tasks.core.errors import StageError
from tasks.storage import conditional_probes, files, s3_client, store_probes
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_probes import ProbeResult
from tasks.storage.store_settings import StoreSettings
from tests.storage import s3_answers
from tests.storage.s3_answers import Answer

RCLONE = Path(sys.executable).with_name("rclone")
KEY = "probes-key"
SECRET = "hidden-secret"
READER = "reader-key"
CONDITIONAL = set(conditional_probes.CONDITIONAL_PROBES)


def identity(key: str, *actions: str) -> dict[str, object]:
    """An identity of SeaweedFS."""
    credentials = [{"accessKey": key, "secretKey": SECRET}]
    return {"name": key, "credentials": credentials, "actions": list(actions)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A server with an administrator of all buckets and a reader of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("s3"))
        patch.delenv("MILLRACE_S3_BUCKET", raising=False)
        identities = [
            identity(KEY, "Admin", "Read", "Write", "List"),
            identity(READER, "Read:millrace", "List:millrace"),
        ]
        server_secrets.SERVER_FOLDER.mkdir(parents=True)
        files.write_private(
            server_secrets.CREDENTIALS_FILE, files.encode_json({"identities": identities})
        )
        with embedded_s3.open_store() as opened:
            yield opened


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A server that ignores the conditions of writes."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "millrace").mkdir()
    [port] = embedded_s3.find_free_ports(1)
    command = [str(RCLONE), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--auth-key", f"{KEY},{SECRET}"],
        env={**os.environ, "RCLONE_CONFIG": os.devnull},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not embedded_s3.is_listening(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield open_store(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(30)


def open_store(endpoint: str, key: str = KEY, bucket: str = "millrace") -> ObjectStore:
    return ObjectStore(StoreSettings(bucket, endpoint=endpoint, key=key, secret=SECRET))


def probe(store: ObjectStore) -> dict[str, ProbeResult]:
    return {result.name: result for result in store_probes.probe_store(store)}


def failed(results: dict[str, ProbeResult]) -> dict[str, str]:
    """The sentences of what failed."""
    return {name: result.sentence for name, result in results.items() if result.state == "failed"}


def test_a_good_store_passes_and_nothing_is_left_behind(server: ObjectStore) -> None:
    results = store_probes.probe_store(server, is_just_started=True)
    assert [result for result in results if result.state != "ok"] == []
    assert results[0].name == "race just after a start"
    assert "one of 8 writers at once has won" in results[0].sentence
    assert list(server.list_names("")) == []


def test_a_store_that_ignores_conditions_is_caught_and_refused(
    careless: ObjectStore, here: Path
) -> None:
    results = probe(careless)
    assert set(failed(results)) >= CONDITIONAL
    assert results["create once"].sentence.startswith("a write that may only create an object has")
    assert_matches("[2-8] of 8 writers at once were told", results["race of 8"].sentence)
    assert results["may delete"].state == "ok"
    sentence = "does not honour conditional writes .* so two promotions could both win"
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(StageError, match=sentence):
            conditional_probes.require_conditional_writes(careless)
    assert list(careless.list_names("")) == []


def test_a_store_that_has_passed_is_asked_again_after_a_day_only(
    server: ObjectStore, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditional_probes.require_conditional_writes(server)
    [passed] = conditional_probes.PASSED_FOLDER.iterdir()
    noted = passed.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(server, "put_if_match", None)  # which would be an error
        conditional_probes.require_conditional_writes(server)
    for content in ("", "{}", '{"time": "2026-01-01T00:00:00+00:00"}', '{"time": "9999-01-01"}'):
        passed.write_text(content)
        conditional_probes.require_conditional_writes(server)
        assert passed.read_text() > noted
    other = open_store(str(server.settings.endpoint), bucket="elsewhere")
    assert conditional_probes.passed_path(other) != passed


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ({"key": "unknown-key"}, {"credentials": "refuses the credentials .InvalidAccessKeyId"}),
        ({"bucket": "nowhere"}, {"bucket": "there is no bucket 'nowhere': create it"}),
        (
            {"key": READER},
            {
                "may write": "refuses the credentials .AccessDenied for PutObject",
                "may delete": "refuses the credentials .AccessDenied for DeleteObject",
            },
        ),
        ({"endpoint": "http://127.0.0.1:9"}, {"server": "cannot be reached"}),
    ],
)
def test_what_the_credentials_may_not_do_has_a_line_of_its_own(
    server: ObjectStore, store: dict[str, str], expected: dict[str, str]
) -> None:
    results = probe(open_store(**({"endpoint": str(server.settings.endpoint)} | store)))
    assert failed(results).keys() == expected.keys()
    for name, sentence in expected.items():
        assert_matches(sentence, results[name].sentence)
    assert {results[name].state for name in CONDITIONAL} == {"not tried"}
    assert SECRET not in str(results)


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


@pytest.mark.parametrize(
    ("answer", "name", "sentence"),
    [
        (s3_answers.refusal("ExpiredToken", 400), "credentials", "expired .ExpiredToken.: get new"),
        (s3_answers.refusal("RequestTimeTooSkewed"), "credentials", "refuses the time of this"),
        (s3_answers.refusal("InvalidToken"), "credentials", "refuses the credentials"),
        (Answer(seconds_ahead=3600), "clock", r"clock is 3,(600|599) s behind the server's"),
        (Answer(seconds_ahead=-3600), "clock", r"clock is 3,60\d s ahead of the server's"),
        (Answer(body="<html>welcome</html>"), "server", "does not answer as an S3 server does"),
    ],
)
def test_what_a_server_answers_is_told(answer: Answer, name: str, sentence: str) -> None:
    with s3_answers.serve(answer) as served:
        results = probe(open_store(served.endpoint))
    assert_matches(sentence, failed(results)[name])


def test_a_server_that_hangs_is_told_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.5)
    with s3_answers.serve_nothing() as endpoint:
        results = probe(open_store(endpoint))
    assert list(failed(results)) == ["server"]
    assert "does not answer in time" in results["server"].sentence
