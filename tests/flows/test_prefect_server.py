"""The environment in which a run finds Prefect's server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import prefect_server
from tests.conftest import ROOT
from tests.storage import s3_answers

# Starts the temporary server, asks it without and with the password, and runs a flow.
RUN = """
import os
from flows import prefect_server
prefect_server.bypass_proxy_for_loopback()
prefect_server.set_default_environment({})
import httpx
from prefect import flow, get_client
from prefect.server.api.server import SubprocessASGIServer
prefect_server.start_server()
api = SubprocessASGIServer().api_url
for path in ("flow_runs/filter", "flow_runs/filter", "flows/", "admin/database/clear"):
    for auth in (None, ("millrace", "wrong")):
        answer = httpx.post(f"{api}/{path}", json={}, auth=auth)
        assert answer.status_code == 401, (path, auth, answer.text)
state = flow(lambda: 7, name="seven")(return_state=True)
[run] = get_client(sync_client=True).read_flow_runs()
print(state.result(), run.state_name)
assert httpx.post(f"{api}/flow_runs/{run.id}/set_state", json={}).status_code == 401
for name in prefect_server.AUTH_VARIABLES:
    print(os.environ[name])
"""
LOOPBACK = "127.0.0.1,localhost,::1"


@pytest.mark.parametrize(
    ("lower", "upper", "expected_lower", "expected_upper"),
    [
        ("", "", LOOPBACK, LOOPBACK),
        ("", "a.com, b.com", f"a.com,b.com,{LOOPBACK}", f"a.com,b.com,{LOOPBACK}"),
        ("a.com,localhost", "b.com", "a.com,localhost,127.0.0.1,::1", f"b.com,{LOOPBACK}"),
        ("*", "", "*", "*"),
    ],
)
def test_hosts_that_need_no_proxy_stay_what_they_were(
    monkeypatch: pytest.MonkeyPatch,
    lower: str,
    upper: str,
    expected_lower: str,
    expected_upper: str,
) -> None:
    monkeypatch.setenv("no_proxy", lower)
    monkeypatch.setenv("NO_PROXY", upper)
    prefect_server.bypass_proxy_for_loopback()
    assert os.environ["no_proxy"] == expected_lower
    assert os.environ["NO_PROXY"] == expected_upper


def test_another_program_at_the_port_is_not_taken_for_our_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "millrace:secret")
    with s3_answers.serve_empty_bucket() as other:
        assert not prefect_server.answers_nobody_else(other.endpoint)


@pytest.mark.slow
def test_the_temporary_server_refuses_whoever_did_not_start_it(here: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if "PREFECT" not in name}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, result, first, second = done.stdout.splitlines()
    assert result == "7 Completed"
    assert first == second
    assert first not in done.stderr
