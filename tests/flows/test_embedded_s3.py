"""The embedded store: how it starts, and how DVC uses it."""

import configparser
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from flows import embedded_s3, prefect_server, server_secrets
from tasks.core.errors import StageError
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_settings import StoreSettings


def dvc(
    *words: str, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> str:
    """Run DVC and return what it prints."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "dvc", *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def push_a_file(store: ObjectStore, folder: Path, **environment: str) -> None:
    """Push a file to the store as a run does, in this environment."""
    dvc("init", "--no-scm", environment=environment)
    (folder / "rows.csv").write_text("rows")
    dvc("add", "rows.csv", environment=environment)
    embedded_s3.configure_dvc_remote(store)
    prefix = embedded_s3.hide_aws_profile(store.settings)
    dvc("push", "--remote", embedded_s3.DVC_REMOTE, prefix=prefix, environment=environment)


def test_what_a_person_has_configured_for_dvc_stays(here: Path) -> None:
    dvc("init", "--no-scm")
    dvc("cache", "dir", "--local", str(here / "shared"))
    dvc("remote", "add", "--local", "--default", "mine", str(here / "mine"))
    for port in (1, 2):
        endpoint = f"http://127.0.0.1:{port}"
        settings = StoreSettings("models", endpoint=endpoint, key="k", secret="s")
        embedded_s3.configure_dvc_remote(ObjectStore(settings))
    assert dvc("config", "cache.dir") == f"{here / 'shared'}\n"
    assert dvc("config", "core.remote") == "mine\n"
    assert dvc("config", "remote.mine.url") == f"{here / 'mine'}\n"
    assert dvc("config", "remote.store.endpointurl") == "http://127.0.0.1:2\n"
    assert (here / ".dvc" / "config.local").stat().st_mode & 0o777 == 0o600


def test_dvc_knows_the_region_and_the_certificates_of_the_store(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-south-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    (here / "ca.pem").touch()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(here / "ca.pem"))
    dvc("init", "--no-scm")
    settings = StoreSettings("models", prefix="", endpoint="https://example.com/s3")
    embedded_s3.configure_dvc_remote(ObjectStore(settings))
    expected = {
        "url": "s3://models/dvc",
        "endpointurl": "https://example.com/s3",
        "region": "eu-south-1",
        "ssl_verify": str(here / "ca.pem"),
    }
    config = configparser.ConfigParser()
    config.read(".dvc/config.local")
    assert dict(config["'remote \"store\"'"]) == expected


def test_only_its_owner_sees_the_folder_of_the_server(here: Path) -> None:
    folder = here / server_secrets.SERVER_FOLDER
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    with embedded_s3.open_store():
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("variable", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_the_embedded_store_looks_at_no_profile(
    here: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "nowhere")
    (here / "broken").write_text("[nonsense")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(here / "broken"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(here / "broken"))
    with embedded_s3.open_store() as store, embedded_s3.open_store() as shared:
        assert store.put_if_match("a.json", b"{}", None)
        stored = shared.get("a.json")
        assert stored
        assert stored[0] == b"{}"


def test_dvc_pushes_to_the_embedded_store_without_a_profile(store: ObjectStore, here: Path) -> None:
    (here / "broken").write_text("[nonsense")
    push_a_file(store, here, AWS_PROFILE="nowhere", AWS_CONFIG_FILE=str(here / "broken"))
    stored = [store.get(name) for name in store.list_names("dvc/")]
    assert b"rows" in [item[0] for item in stored if item]


def test_dvc_pushes_to_the_embedded_store_past_a_proxy(
    store: ObjectStore, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.com")
    prefect_server.bypass_proxy_for_loopback()
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    push_a_file(store, here, **proxies)


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_a_configured_store_with_a_missing_profile_is_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("MILLRACE_S3_BUCKET", "models")
    monkeypatch.setenv("MILLRACE_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    sentence = (
        r"s3://models/millrace.* cannot be opened .*\(nowhere\) could not be found.* "
        "such as AWS_PROFILE"
    )
    with pytest.raises(StageError, match=sentence), embedded_s3.open_store():
        pass


def test_a_start_that_fails_leaves_no_server(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_RETRY_MODE", "nonsense")  # which is seen once the server answers
    with pytest.raises(StageError, match=r"cannot be opened .*nonsense"), embedded_s3.open_store():
        pass
    servers = [
        process
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "weed" and process.info["cwd"] == str(here)
    ]
    assert servers == []
