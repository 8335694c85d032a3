"""The store as DVC knows it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from flows import cli, embedded_s3
from tasks.core.errors import StageError
from tasks.registry import channel_pointer, manifests
from tasks.storage.object_store import ObjectStore, StoreSettings


def test_what_a_person_has_configured_for_dvc_in_this_workspace_stays_as_it_was(here: Path) -> None:
    def dvc(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *words], check=True, capture_output=True, text=True
        ).stdout

    dvc("init", "--no-scm")
    for words in (
        ("cache", "dir", "--local", str(here / "shared")),
        ("remote", "add", "--local", "--default", "mine", str(here / "mine")),
    ):
        dvc(*words)
    for port in (1, 2):
        embedded_s3.configure_dvc_remote(
            StoreSettings("models", endpoint=f"http://127.0.0.1:{port}", key="k", secret="s")
        )
    assert (dvc("config", "cache.dir"), dvc("config", "core.remote")) == (
        f"{here / 'shared'}\n",
        "mine\n",
    )
    assert dvc("config", "remote.store.endpointurl") == "http://127.0.0.1:2\n"
    assert dvc("config", "remote.mine.url") == f"{here / 'mine'}\n"
    assert (here / ".dvc" / "config.local").stat().st_mode & 0o777 == 0o600


def ports_of(store: ObjectStore) -> dict[str, str]:
    """The ports of the embedded server, by their names on its command line."""
    s3 = f"-s3.port={(store.settings.endpoint or '').rpartition(':')[2]}"
    [words] = [
        one.info["cmdline"]
        for one in psutil.process_iter(["cmdline"])
        if s3 in (one.info["cmdline"] or [])
    ]
    options = dict(word.removeprefix("-").split("=", 1) for word in words if "=" in word)
    return {name: value for name, value in options.items() if name.endswith(".port")}


def test_no_other_port_of_the_server_lets_anyone_in(store: ObjectStore, tmp_path: Path) -> None:
    """What is in production is neither read, replaced nor deleted without credentials."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"good" * 5000)
    name = manifests.publish_version(
        store,
        "guarded",
        tmp_path / "model",
        manifests.encode_manifest("guarded", tmp_path / "model", {}, {}, {}),
    )
    evidence = {"verdict": "promote", "champion": None}
    assert channel_pointer.promote(
        store, "guarded", "production", name, evidence, None, "test", "promotes"
    ).won
    before = channel_pointer.read_pointer(store, "guarded", "production")
    assert before

    ports = ports_of(store)
    pointer = next(key for key in store.list_names("guarded/channels/"))
    asked = [
        ("filer", f"/buckets/{store.settings.bucket}/{store.key(pointer)}"),
        ("filer", f"/buckets/{store.settings.bucket}"),
        ("volume", "/1,0123456789"),
    ]
    forged = json.dumps({"version": "evil", "generation": 9}).encode()
    for server, path in asked:
        for method in ("GET", "PUT", "POST", "DELETE"):
            url = f"http://127.0.0.1:{ports[f'{server}.port']}{path}?recursive=true"
            said = httpx.request(
                method,
                url,
                files={"file": forged} if method in ("PUT", "POST") else None,
                trust_env=False,
            )
            assert said.status_code in (401, 403, 404), (server, path, method)
            assert b"good" not in said.content
            if server == "volume":
                assert said.status_code == 401
    for path in (
        "/dir/assign",
        "/dir/lookup?fileId=1,0123456789",
        f"/col/delete?collection={store.settings.bucket}",
    ):
        said = httpx.get(f"http://127.0.0.1:{ports['master.port']}{path}", trust_env=False)
        assert said.status_code == 404
        assert "authorization" not in said.headers

    assert channel_pointer.read_pointer(store, "guarded", "production") == before
    assert (
        manifests.fetch_version(store, "guarded", name, tmp_path / "cache") / "model.bin"
    ).read_bytes() == b"good" * 5000


def test_only_its_owner_sees_the_folder_of_the_server(here: Path) -> None:
    (here / embedded_s3.SERVER_FOLDER).mkdir(parents=True)
    (here / embedded_s3.SERVER_FOLDER).chmod(0o755)
    with embedded_s3.open_store():
        assert (here / embedded_s3.SERVER_FOLDER).stat().st_mode & 0o777 == 0o700


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
        assert (shared.get("a.json") or (None, None))[0] == b"{}"


def test_dvc_pushes_to_the_embedded_store_without_a_profile(store: ObjectStore, here: Path) -> None:
    (here / "broken").write_text("[nonsense")
    pushed(store, here, {"AWS_PROFILE": "nowhere", "AWS_CONFIG_FILE": str(here / "broken")})
    assert b"rows" in [(store.get(name) or (b"", ""))[0] for name in store.list_names("dvc/")]


def pushed(store: ObjectStore, folder: Path, environment: dict[str, str]) -> None:
    """Push a file to the store as a run does, in this environment."""

    def dvc(*words: str, before: tuple[str, ...] = ()) -> None:
        command = [*before, sys.executable, "-m", "dvc", *words]
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

    dvc("init", "--no-scm")
    (folder / "rows.csv").write_text("rows")
    dvc("add", "rows.csv")
    embedded_s3.configure_dvc_remote(store.settings)
    dvc(
        "push",
        "--remote",
        embedded_s3.DVC_REMOTE,
        before=tuple(embedded_s3.hide_aws_profile(store.settings)),
    )


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_a_configured_store_with_a_missing_profile_is_one_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("MILLRACE_S3_BUCKET", "models")
    monkeypatch.setenv("MILLRACE_S3_ENDPOINT", endpoint)
    monkeypatch.setenv("AWS_PROFILE", "nowhere")
    with (
        pytest.raises(
            StageError,
            match=r"s3://models/millrace.* cannot be opened .*\(nowhere\) could not be found.* such as AWS_PROFILE",
        ),
        embedded_s3.open_store(),
    ):
        pass


def test_a_start_that_fails_leaves_no_server(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_RETRY_MODE", "nonsense")  # which is seen once the server answers
    with pytest.raises(StageError, match="cannot be opened .*nonsense.*"), embedded_s3.open_store():
        pass
    assert servers_here() == []


def servers_here() -> list[str]:
    """The embedded servers that run in this folder."""
    found = psutil.process_iter(["name", "cwd"])
    return [
        one.info["name"]
        for one in found
        if one.info["name"] == "weed" and one.info["cwd"] == os.getcwd()
    ]


def test_dvc_pushes_to_the_embedded_store_past_a_proxy(
    store: ObjectStore, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.com")
    cli.bypass_proxy_for_loopback()
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    pushed(store, here, proxies)


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ("", "", ("127.0.0.1,localhost,::1", "127.0.0.1,localhost,::1")),
        (
            "",
            "a.com, b.com",
            ("a.com,b.com,127.0.0.1,localhost,::1", "a.com,b.com,127.0.0.1,localhost,::1"),
        ),
        (
            "a.com,localhost",
            "b.com",
            ("a.com,localhost,127.0.0.1,::1", "b.com,127.0.0.1,localhost,::1"),
        ),
        ("*", "", ("*", "*")),
    ],
)
def test_hosts_that_need_no_proxy_stay_what_they_were(
    monkeypatch: pytest.MonkeyPatch, lower: str, upper: str, expected: tuple[str, str]
) -> None:
    monkeypatch.setenv("no_proxy", lower)
    monkeypatch.setenv("NO_PROXY", upper)
    cli.bypass_proxy_for_loopback()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == expected
