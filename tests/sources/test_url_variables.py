"""Variables in a URL: each value is encoded as its position needs."""

import pytest

from tasks.core.errors import ConfigError
from tasks.sources.url_variables import describe_double_encoding, expand_variables

SPECIAL = "a/b#c?d[e@f:g%41 h&i=j+k"
WRITTEN = "a%2Fb%23c%3Fd%5Be%40f%3Ag%2541%20h%26i%3Dj%2Bk"


@pytest.mark.parametrize(
    ("url", "value", "expected"),
    [
        ("https://user:${V}@host/x", SPECIAL, f"https://user:{WRITTEN}@host/x"),
        ("https://${V}:word@host/x", SPECIAL, f"https://{WRITTEN}:word@host/x"),
        ("https://user:start-${V}-end@host", SPECIAL, f"https://user:start-{WRITTEN}-end@host"),
        ("https://${V}@host/x", "user:p@s/s:word", "https://user:p%40s%2Fs%3Aword@host/x"),
        ("https://${V}@host/x", "to/ken", "https://to%2Fken@host/x"),
        ("https://host/x?a=b&token=${V}", SPECIAL, f"https://host/x?a=b&token={WRITTEN}"),
        ("https://host/x?${V}", "a=1&b=%2F", "https://host/x?a=1&b=%2F"),
        ("https://host/x?a=1&${V}", "b=%2F", "https://host/x?a=1&b=%2F"),
        ("https://host/${V}/x.csv", "in/50% of?all", "https://host/in/50%25%20of%3Fall/x.csv"),
        ("https://${V}/x.csv", "host:8080/in", "https://host:8080/in/x.csv"),
        ("https://user@${V}/x", "[::1]:8080", "https://user@[::1]:8080/x"),
        ("https://host:${V}/x", "8080", "https://host:8080/x"),
        ("${V}", "sql://user:p%2Fs@host/db", "sql://user:p%2Fs@host/db"),
        ("${V}/db?password=a", "sql://user:p%2Fs@host", "sql://user:p%2Fs@host/db?password=a"),
        ("${V}:5432/db", "sql://host", "sql://host:5432/db"),
        ("${V}://user:word@host/db", "sql+driver", "sql+driver://user:word@host/db"),
        ("sqlite:///${V}", "/a folder/100%.db", "sqlite:////a folder/100%.db"),
        ("https://host/x#${V}", "a/b", "https://host/x#a/b"),
        ("https://user:${V}@host/x", "${HOME}", "https://user:%24%7BHOME%7D@host/x"),
        ("https://user:${V}@host/x", "\udcff", "https://user:%FF@host/x"),
    ],
)
def test_a_variable_of_a_url_is_encoded_as_its_position_needs(
    monkeypatch: pytest.MonkeyPatch, url: str, value: str, expected: str
) -> None:
    monkeypatch.setenv("V", value)
    assert expand_variables(url) == expected


def test_a_host_with_a_password_in_it_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REST", "user:hid/den@host/x")
    with pytest.raises(
        ConfigError, match="the variable REST is in the position of the host"
    ) as caught:
        expand_variables("https://${REST}")
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_named"),
    [
        ("https://user:${V}@host/x", True),
        ("https://host/x?token=${V}", True),
        ("https://user:${PLAIN}@host/x", False),
        ("${V}", False),
        ("https://user:${NOT_SET}@host/x", False),
    ],
)
def test_a_value_that_was_encoded_before_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, is_named: bool
) -> None:
    monkeypatch.setenv("V", "p%2Fs")
    monkeypatch.setenv("PLAIN", "100% p/s")
    sentence = " V looks percent-encoded, but ingest.url takes its value as it is."
    assert describe_double_encoding(url) == (sentence if is_named else "")
