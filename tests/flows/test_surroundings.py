"""Runs on machines with proxies, a slow Prefect server or a wrong call: one sentence each."""

import re
from pathlib import Path

import pytest

from tests.flows.workspace import Workspace

pytestmark = pytest.mark.slow

CLOSED = "http://127.0.0.1:9"  # no proxy listens there
CLOSED_PROXIES = {
    "NO_PROXY": "",
    "no_proxy": "",
    "HTTP_PROXY": CLOSED,
    "HTTPS_PROXY": CLOSED,
    "ALL_PROXY": CLOSED,
}


def test_an_unknown_recipe_is_a_mistake_with_one_sentence(cold: Workspace) -> None:
    done = cold.retrain("digit")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "error: 'digit' is not a registered recipe (did you mean digits?). "
        "Registered: digits, tiny."
    )


def test_a_run_asks_no_proxy_for_servers_of_this_machine(cold: Workspace, tmp_path: Path) -> None:
    """Without its source, the run ends after Prefect, the store and DVC have begun."""
    workspace = cold.copy(tmp_path)
    (workspace.root / "data" / "sources" / "tiny.csv").unlink()
    done = workspace.retrain("tiny", **CLOSED_PROXIES)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert re.fullmatch(r"Failed: .*data/sources/tiny\.csv.*", done.stdout.splitlines()[-1])
    assert workspace.objects("tiny/runs/") == [f"tiny/runs/{workspace.record().run}.json"]


def test_a_proxy_in_small_letters_is_not_asked_either(cold: Workspace, tmp_path: Path) -> None:
    workspace = cold.copy(tmp_path)
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), CLOSED)
    done = workspace.run("millrace", "status", "tiny", NO_PROXY="", no_proxy="", **proxies)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny: nothing is in production yet.")


def test_dvc_alone_needs_no_proxy(cold: Workspace, tmp_path: Path) -> None:
    workspace = cold.copy(tmp_path)
    done = workspace.run("dvc", "repro", "ingest@tiny", **CLOSED_PROXIES)
    assert done.returncode == 0, done.stderr


def test_a_proxy_that_is_not_supported_ends_a_run_with_a_sentence(cold: Workspace) -> None:
    done = cold.retrain("tiny", ALL_PROXY="socks://secret@127.0.0.1:9")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "error: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy of a kind that Prefect's "
        "client does not support"
    )
    assert "secret" not in line


def test_a_prefect_server_that_does_not_answer_in_time_is_one_sentence(
    cold: Workspace, tmp_path: Path
) -> None:
    workspace = cold.copy(tmp_path)
    variable = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
    done = workspace.retrain("tiny", **{variable: "1"})
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(
        f"error: Prefect's temporary server did not answer in time ({variable} is 1)"
    )
    assert workspace.processes() == []
