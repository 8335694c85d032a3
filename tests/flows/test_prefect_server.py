"""The environment in which a run finds Prefect's server."""

import os

import pytest

from flows import prefect_server

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
