"""Malformed inputs, each through the stage ingest as a person meets it.

Every input ends with a sentence, or with rows that are set aside and counted; never with a
traceback or a password.
"""

import logging
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import JsonValue

from flows.server_secrets import BUCKET
from tasks import ingest, sources
from tasks.contracts.snapshot import Snapshot
from tasks.core import stage
from tasks.recipe import loading
from tasks.sources import Source, http
from tasks.sources.base import SourcePartition
from tasks.sources.formats import file_content
from tasks.storage.layout import StagePaths
from tasks.storage.object_store import ObjectStore
from tests.sources.malformed import file_cases, place_cases, remote_cases, text_cases
from tests.sources.malformed.case import CONFIG_ERROR, GOOD, SECRET, Case
from tests.sources.test_http import Site
from tests.sources.test_http import site as site

CASES: list[Case] = [
    *file_cases.FILE_CASES,
    *file_cases.ARCHIVE_CASES,
    *text_cases.TEXT_CASES,
    *text_cases.ROW_CASES,
    *text_cases.JSON_CASES,
    *text_cases.VALUE_CASES,
    *place_cases.PATH_CASES,
    *place_cases.IMAGE_CASES,
    *remote_cases.URL_CASES,
    *remote_cases.BUCKET_CASES,
    *remote_cases.DATABASE_CASES,
    *place_cases.LOG_CASES,
]
PATHS = StagePaths(Path("out"))


@dataclass
class World:
    """A folder, servers and credentials with recognisable secrets."""

    site: Site
    silent_port: int  # accepts connections and never answers
    request: pytest.FixtureRequest
    monkeypatch: pytest.MonkeyPatch
    secrets: list[str]

    def prepare(self, case: Case) -> dict[str, JsonValue]:
        """Make what the case needs, and return its source."""
        for name, data in case.inputs.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(data):
                data(path)
            else:
                path.write_bytes(data)
        for attribute, value in case.site.items():
            setattr(self.site, attribute, value)
        source: dict[str, JsonValue] = {"kind": "files", **case.source}
        if source.get("url") == "SITE":
            source["url"] = self.site.url()
        elif source.get("url") == "SILENT":
            source["url"] = f"http://user:${{PASSWORD}}@127.0.0.1:{self.silent_port}/rows.csv"
        if case.store:
            return self.use_store(case.store) | source
        if source["kind"] == "s3":
            self.set_credentials("any", SECRET)
        return source

    def use_store(self, state: str) -> dict[str, JsonValue]:
        """Put two objects into a real S3 server, and return the settings of its bucket."""
        store: ObjectStore = self.request.getfixturevalue("store")
        assert store.settings.key
        assert store.settings.secret
        self.secrets.append(store.settings.secret)
        secret = SECRET if state == "wrong secret" else store.settings.secret
        self.set_credentials(store.settings.key, secret)
        for name in ("in/a.csv", "in/b.csv"):
            store.client.put_object(Bucket=BUCKET, Key=name, Body=GOOD)
        if state == "deleted":
            self.delete_after_listing(store, "in/b.csv")
        return {"bucket": BUCKET, "prefix": "in/", "endpoint": store.settings.endpoint}

    def set_credentials(self, key: str, secret: str) -> None:
        """Set the credentials that boto3 finds."""
        self.monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        self.monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    def delete_after_listing(self, store: ObjectStore, name: str) -> None:
        """Delete an object after the first part was read."""
        iter_partitions = sources.iter_partitions

        def iter_and_delete(source: Source) -> Iterator[SourcePartition]:
            for part in iter_partitions(source):
                yield part
                store.client.delete_object(Bucket=BUCKET, Key=name)

        self.monkeypatch.setattr(sources, "iter_partitions", iter_and_delete)


@pytest.fixture
def world(
    here: Path, site: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    """Small limits, and what a malformed input may need."""
    monkeypatch.setenv("PASSWORD", SECRET)
    monkeypatch.setattr(file_content, "MIN_UNPACKED_LIMIT", 1_000_000)
    monkeypatch.setattr(http, "HTTP_TIMEOUT", httpx.Timeout(0.5))
    site.data = GOOD
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        yield World(site, port, request, monkeypatch, [SECRET])


def write_recipe(source: dict[str, JsonValue], changes: dict[str, JsonValue]) -> None:
    """Write a recipe with this source."""
    columns: dict[str, JsonValue] = {"id": "id"}
    if source.get("header") == "auto":
        columns = {"text": "f1", "label": "f2"}
    elif source["kind"] in ("images", "request_log"):
        columns = {}
    recipe: dict[str, object] = {
        "name": "malformed",
        "modality": "text",
        "max_dropped": 1,
        "ingest": source,
        "gate": [{"rule": "floor", "metric": "macro_f1", "bound": 0.5}],
        "columns": columns,
        **changes,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe).replace("\\0CONTROL", "\0"))


def run_ingest() -> int:
    """Return the exit status of the stage."""

    def ingest_recipe(name: str) -> None:
        ingest.run(loading.read_recipe(Path(f"{name}.yaml")), PATHS)

    ingest_recipe.__name__ = "ingest"
    with pytest.raises(SystemExit) as ended:
        stage.main(ingest_recipe, ["recipe"])
    return int(ended.value.code or 0)


def check_snapshot(case: Case) -> None:
    """Check that every row is kept or counted."""
    snapshot = Snapshot.read(PATHS.raw.snapshot)
    rows = []
    for partition in snapshot.partitions:
        rows += pq.read_table(PATHS.raw.partition(partition.file)).to_pylist()
    rejects = pq.read_table(PATHS.raw.rejects)
    assert snapshot.rows == len(rows) == case.rows
    assert snapshot.by_rule == case.rules
    assert snapshot.rows_in == snapshot.rows + snapshot.rejects
    assert rejects.num_rows == snapshot.rejects == sum(case.rules.values())
    assert case.check(rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_malformed_input_is_refused_or_counted(
    case: Case,
    world: World,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    if case.name == "unreadable file" and os.getuid() == 0:
        pytest.skip("root may read every file")
    write_recipe(world.prepare(case), case.recipe)

    status = run_ingest()

    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert "failed with an unexpected" not in errors
    written = [path.read_bytes() for path in PATHS.root.rglob("*") if path.is_file()]
    visible = errors + caplog.text + b"".join(written).decode("latin-1")
    assert not [secret for secret in world.secrets if secret in visible]
    if case.sentence:
        assert status == case.status, errors
        assert errors.startswith("error: ") or status == CONFIG_ERROR
        assert re.search(case.sentence, errors), errors
    else:
        assert status == 0, errors
        check_snapshot(case)


def test_at_least_sixty_malformed_inputs_have_names_of_their_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
