"""A file behind a URL, from a real server on loopback that can cut connections off."""

import io
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import HttpSource
from tasks.sources import list_partition_versions
from tests.conftest import read_batches

DATA = b"id,text\n" + b"".join(b"%d,row number %d\n" % (n, n) for n in range(20_000))


class Site(ThreadingHTTPServer):
    """What it serves, and what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.etag = '"one"'
        self.cut_after = 0  # bytes of a body that are sent; 0 for all
        self.status = 200
        self.to: str | None = None  # where requests are redirected
        self.served = ""  # the ETag of what GET serves, if it is not the one that HEAD names
        self.asked: list[tuple[str, str | None]] = []
        self.paths: list[str] = []
        self.credentials: list[str | None] = []

    def url(self, rest: str = "/rows.csv?token=${PASSWORD}") -> str:
        return f"http://user:${{PASSWORD}}@127.0.0.1:{self.server_port}{rest}"

    def downloads(self) -> list[str | None]:
        return [ranges for method, ranges in self.asked if method == "GET"]


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        site = self.server
        site.asked.append((self.command, self.headers.get("Range")))
        site.paths.append(self.path)
        site.credentials.append(self.headers.get("Authorization"))
        start = self.find_start()
        data = site.data[start:]
        if site.to:
            self.send_response(302)
            self.send_header("Location", site.to)
        elif start and site.status == 200:
            self.send_response(206)
        else:
            self.send_response(site.status)
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data[: site.cut_after] if site.cut_after else data)

    def find_start(self) -> int:
        """The beginning of the wanted range, if the file is still the one that is wanted."""
        etag = self.server.served or self.server.etag
        ranges = self.headers.get("Range")
        if not ranges or self.headers.get("If-Range", etag) != etag:
            return 0
        return int(ranges.removeprefix("bytes=").rstrip("-"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("PASSWORD", "hidden")
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def build_source(site: Site, **settings: object) -> HttpSource:
    return HttpSource.model_validate({"kind": "http", "url": site.url(), **settings})


def count_rows(source: HttpSource) -> int:
    return sum(batch.table.num_rows for batch in read_batches(source))


def test_a_version_is_downloaded_once_and_a_new_one_again(site: Site) -> None:
    first = list_partition_versions(build_source(site))
    assert count_rows(build_source(site)) == count_rows(build_source(site)) == 20_000
    assert site.downloads() == [None]
    site.data = DATA + b"20000,one more\n"
    site.etag = '"two"'
    assert list_partition_versions(build_source(site)) != first
    assert count_rows(build_source(site)) == 20_001


def test_a_download_that_was_cut_off_continues(site: Site) -> None:
    site.cut_after = 100_000
    with pytest.raises(RetryableError, match="cannot be read to its end"):
        count_rows(build_source(site))
    site.cut_after = 0
    assert count_rows(build_source(site)) == 20_000
    assert site.downloads() == [None, "bytes=100000-"]


def test_a_file_that_changed_after_the_cut_is_read_from_its_beginning(site: Site) -> None:
    site.cut_after = 100_000
    with pytest.raises(RetryableError):
        count_rows(build_source(site))
    site.cut_after = 0
    site.data = b"id,text\n1,new\n"
    site.etag = '"two"'
    assert count_rows(build_source(site)) == 1
    assert site.downloads() == [None, None]


def test_without_a_version_the_content_is_the_fingerprint(site: Site) -> None:
    site.etag = ""
    first = list_partition_versions(build_source(site))
    assert list_partition_versions(build_source(site)) == first
    site.data += b"20000,one more\n"
    assert list_partition_versions(build_source(site)) != first


def test_pieces_of_two_versions_are_never_joined(
    site: Site,
) -> None:
    site.cut_after = 100_000
    with pytest.raises(RetryableError):
        count_rows(build_source(site))
    site.cut_after = 0
    site.data = DATA.replace(b"row", b"new")
    site.served = '"two"'
    [batch] = read_batches(build_source(site))
    assert set(batch.table["text"].to_pylist()) == {f"new number {n}" for n in range(20_000)}


@pytest.mark.parametrize(
    ("change", "settings", "kind", "sentence"),
    [
        ({"status": 404}, {}, StageError, "answers with status 404: check the address"),
        ({"status": 503}, {}, RetryableError, "answers with status 503"),
        ({"to": "file:///etc/passwd"}, {}, StageError, "leads to an address that is not read"),
        (
            {"to": "/rows.csv"},
            {},
            StageError,
            r"leads to an address that is not read \(TooManyRedirects\)",
        ),
        ({}, {"max_bytes": 1000}, StageError, "is larger than 1,000 bytes: raise ingest.max_bytes"),
        (
            {},
            {"sha256": "0" * 64},
            StageError,
            r"rows.csv has sha256 [0-9a-f]{64}, but the recipe expects 0000",
        ),
        (
            {},
            {"url": "http://127.0.0.1:9/rows.csv"},
            RetryableError,
            r"http://127.0.0.1:9/rows.csv cannot be read to its end \(ConnectError\)",
        ),
        (
            {},
            {"url": "https://${NOT_SET}@127.0.0.1/rows.csv"},
            ConfigError,
            "names the variable NOT_SET, which is not set",
        ),
    ],
)
def test_what_cannot_be_fetched_ends_with_a_sentence_without_secrets(
    site: Site,
    change: dict[str, object],
    settings: dict[str, object],
    kind: type[StageError],
    sentence: str,
) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    with pytest.raises(kind, match=sentence) as caught:
        count_rows(build_source(site, **settings))
    assert "hidden" not in str(caught.value)


def test_the_members_of_an_archive_behind_a_url_are_parts(site: Site) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", DATA)
        archive.writestr("b/c.csv", b"id,text\nx,last\n")
    site.data = buffer.getvalue()
    source = build_source(site, url=site.url("/rows.zip?token=${PASSWORD}"))
    name = f"http://127.0.0.1:{site.server_port}/rows.zip"
    assert {batch.name: batch.table.num_rows for batch in read_batches(source)} == {
        f"{name}/a.csv": 20_000,
        f"{name}/b/c.csv": 1,
    }
    assert list(read_batches(source, skip=list_partition_versions(source))) == []


@pytest.mark.parametrize(
    "password", ["a/b", "a#b", "a?b", "a[b", "a@b:c", "100%41", "a b&c=d", "é"]
)
def test_any_password_reaches_the_server_whole(
    site: Site, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("PASSWORD", password)
    assert count_rows(build_source(site)) == 20_000
    credentials = b64encode(f"user:{password}".encode()).decode()
    assert set(site.credentials) == {f"Basic {credentials}"}
    assert {parse_qs(urlsplit(path).query)["token"][0] for path in site.paths} == {password}
    assert {urlsplit(path).path for path in site.paths} == {"/rows.csv"}


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://${HOST}/rows.csv", "127.0.0.1:hidden"),
        ("http://${HOST}/rows.csv", "[hidden"),
        ("http://${HOST}/rows.csv", "hid\u2100den"),
        ("http://${HOST}/rows.csv", "hid\x07den"),
        ("http://user:${PASSWORD}@${HOST}/rows.csv", ""),
    ],
)
def test_a_url_that_cannot_be_parsed_ends_with_a_sentence_without_its_values(
    site: Site, monkeypatch: pytest.MonkeyPatch, url: str, host: str
) -> None:
    monkeypatch.setenv("HOST", host)
    sentence = r"ingest.url is not the URL of a file once its \$\{…\} are filled in: write it as"
    with pytest.raises(ConfigError, match=sentence) as caught:
        count_rows(build_source(site, url=url))
    assert "hid" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_refused_password_that_was_encoded_before_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "hidden%2F")
    site.status = 401
    with pytest.raises(StageError, match=r"status 401.*PASSWORD.* looks percent-encoded") as caught:
        count_rows(build_source(site))
    assert "hidden" not in str(caught.value)
