"""Rows of a real PostgreSQL, if it is installed: read and never written."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import SqlSource
from tasks.sources import list_partition_versions
from tests import postgres
from tests.conftest import read_batches
from tests.postgres import Server
from tests.sources.test_sql import source


class Refusal(NamedTuple):
    """Settings of the source and variables of the environment, and the error that they end with."""

    settings: dict[str, str]
    environment: dict[str, str]
    error: type[StageError]
    sentence: str


@pytest.fixture(scope="module")
def started() -> Iterator[Server]:
    with postgres.running() as server:
        if server is None:
            pytest.skip(postgres.MISSING)
        yield server


@pytest.fixture
def server(started: Server, here: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("PG_PASSWORD", postgres.PASSWORD)
    started.execute(
        'drop schema if exists "Help Desk" cascade',
        'create schema "Help Desk"',
        "create sequence if not exists numbers",
        """create table "Help Desk"."Messages 2026" (
               id integer, text text, price numeric(10, 2), at timestamptz, image bytea,
               about jsonb, tags text[], open boolean
           )""",
        """insert into "Help Desk"."Messages 2026" values
           (2, '100% at 10:30', 1.10, '2026-03-01 12:00:00+02', '\\x89504e47',
            '{"b": 1, "a": [null]}', '{x,y}', true),
           (1, null, 'NaN', null, null, null, null, false)""",
    )
    return started


def desk(server: Server, **settings: str) -> SqlSource:
    return source(**{"url": server.url(), **settings})


def test_postgres_gives_every_type_the_same_text_in_any_time_zone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [
        {
            "id": "1",
            "text": None,
            "price": "NaN",
            "at": None,
            "image": None,
            "about": None,
            "tags": None,
            "open": "false",
        },
        {
            "id": "2",
            "text": "100% at 10:30",
            "price": "1.10",
            "at": "2026-03-01 10:00:00+00:00",
            "image": b"\x89PNG",
            "about": '{"a": [null], "b": 1}',
            "tags": '["x", "y"]',
            "open": "true",
        },
    ]
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("PGTZ", zone)
        [part] = read_batches(desk(server, table="Help Desk.Messages 2026"))
        assert part.table.to_pylist() == expected


def test_a_query_reaches_postgres_as_it_is_written(server: Server) -> None:
    query = """select id, 'at 10:30'::text as note
               from "Help Desk"."Messages 2026" where text like '100%';"""
    [part] = read_batches(desk(server, query=query))
    assert part.table.to_pylist() == [{"id": "2", "note": "at 10:30"}]


def test_with_a_watermark_the_fingerprint_of_a_postgres_table_follows_inserts(
    server: Server,
) -> None:
    marked = desk(server, table="Help Desk.Messages 2026", watermark="id")
    assert list_partition_versions(marked) == {"sql Help Desk.Messages 2026": "2 rows up to 2"}
    server.execute("""insert into "Help Desk"."Messages 2026" (id) values (7)""")
    assert list_partition_versions(marked) == {"sql Help Desk.Messages 2026": "3 rows up to 7"}
    assert [part.table["id"].to_pylist() for part in read_batches(marked)] == [["1", "2", "7"]]


@pytest.mark.parametrize(
    "query",
    [
        'delete from "Help Desk"."Messages 2026"',
        'with gone as (delete from "Help Desk"."Messages 2026" returning id) select * from gone',
        'commit; delete from "Help Desk"."Messages 2026"',
        "create table other (id integer)",
        "select nextval('numbers')",
    ],
)
def test_a_query_that_writes_is_refused_by_postgres_and_changes_nothing(
    server: Server, query: str
) -> None:
    messages = desk(server, table="Help Desk.Messages 2026")
    before = list_partition_versions(messages)
    with pytest.raises(
        StageError, match=r"syntax error|data-modifying statements|in a read-only transaction"
    ):
        list(read_batches(desk(server, query=query)))
    assert list_partition_versions(messages) == before


@pytest.mark.parametrize(
    "case",
    [
        Refusal(
            {"table": "nothing"},
            {},
            StageError,
            'sql nothing: the database answers: relation "nothing" does not exist',
        ),
        Refusal({"query": "selec 1"}, {}, StageError, 'syntax error at or near "selec"'),
        Refusal({"query": "select 1/0"}, {}, StageError, "division by zero"),
        Refusal({"query": "set work_mem = '4MB'"}, {}, StageError, "syntax error"),
        Refusal(
            {"query": "select 1 as a, 2 as a"},
            {},
            StageError,
            "sql query gives a more than once: name the columns in ingest.query with AS",
        ),
        Refusal(
            {"query": "select '-infinity'::timestamp as at"}, {}, StageError, "timestamp too small"
        ),
        Refusal(
            {"table": "x"},
            {"PG_PASSWORD": "hidden"},
            StageError,
            'password authentication failed for user "reader"',
        ),
        Refusal(
            {"table": "x", "database": "nowhere"},
            {},
            StageError,
            'database "nowhere" does not exist',
        ),
        Refusal(
            {
                "table": "x",
                "url": "postgresql+psycopg://reader:${PG_PASSWORD}@127.0.0.1:9/postgres",
            },
            {},
            RetryableError,
            "onnection refused",
        ),
        Refusal(
            {
                "table": "x",
                "url": "postgresql+psycopg://reader:${PG_PASSWORD}@127.0.0.1:port/postgres",
            },
            {},
            ConfigError,
            "ingest.url is not the URL of a database",
        ),
        Refusal(
            {"table": "x", "url": "foo://reader:${PG_PASSWORD}@127.0.0.1/postgres"},
            {},
            ConfigError,
            "the driver of this database is not installed",
        ),
    ],
)
def test_what_postgres_cannot_give_ends_with_a_sentence_without_the_password(
    server: Server, monkeypatch: pytest.MonkeyPatch, case: Refusal
) -> None:
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    settings = dict(case.settings)
    url = server.url(settings.pop("database", "postgres"))
    with pytest.raises(StageError, match=case.sentence) as caught:
        list(read_batches(source(**{"url": url, **settings})))
    assert type(caught.value) is case.error
    assert postgres.PASSWORD not in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_server_that_ends_in_the_middle_may_be_back_later(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_PASSWORD", postgres.PASSWORD)
    with postgres.running() as server:
        if server is None:
            pytest.skip(postgres.MISSING)
        ending = threading.Timer(1, server.kill)
        ending.start()
        with pytest.raises(
            RetryableError,
            match=r"sql query: the database answers|the connection to the database was lost",
        ):
            list(read_batches(desk(server, query="select pg_sleep(30)::text as slept")))
        ending.join()
