"""Rows of a database, read and never written: SQLite, and a real PostgreSQL where it is installed."""

import sqlite3
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import SqlSource
from tasks.sources import list_partition_versions, sql
from tests import postgres
from tests.conftest import partitions
from tests.postgres import Server


@pytest.fixture
def database(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", "tiger")
    with sqlite3.connect(here / "desk.db") as connection:
        connection.execute("create table messages (id integer, text text, changed integer)")
        connection.executemany(
            "insert into messages values (?, ?, ?)",
            [(2, "second", 20), (1, None, 10), (3, "third", 30)],
        )
    connection.close()
    return here / "desk.db"


def source(**settings: str) -> SqlSource:
    return SqlSource.model_validate({"kind": "sql", "url": "sqlite:///desk.db", **settings})


def change(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


def test_a_table_and_a_query_give_their_rows_as_text_in_an_order_of_their_own(
    database: Path,
) -> None:
    [whole] = partitions(source(table="messages"))
    assert whole.table.to_pylist() == [
        {"id": "1", "text": None, "changed": "10"}, {"id": "2", "text": "second", "changed": "20"}, {"id": "3", "text": "third", "changed": "30"},
    ]  # fmt: skip
    [some] = partitions(
        source(query="select id, text from messages where changed > 10 order by id desc;")
    )
    assert some.table.to_pylist() == [{"id": "2", "text": "second"}, {"id": "3", "text": "third"}]


@pytest.mark.parametrize(
    "settings",
    [
        {"table": "messages"},
        {"table": "messages", "watermark": "changed"},
        {"query": "select * from messages"},
    ],
)
def test_the_fingerprint_changes_with_the_rows_and_only_with_them(
    database: Path, settings: dict[str, str]
) -> None:
    before = list_partition_versions(source(**settings))
    assert list_partition_versions(source(**settings)) == before
    change(database, "insert into messages values (4, 'fourth', 40)")
    assert list_partition_versions(source(**settings)) != before


def test_with_a_watermark_only_the_part_with_new_rows_is_read_and_none_is_lost(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "PARTITION_ROWS", 2)
    change(
        database,
        "insert into messages values (4, ':4 %', 30), (5, 'fifth', 50), (6, 'no mark', null)",
    )
    made = source(
        query="select *, ':x' as colon, '10%' as percent from messages", watermark="changed"
    )
    before = list_partition_versions(made)
    assert (
        before.items()
        >= {
            "sql query": "2 rows up to 20",
            "sql query part 2": "2 rows up to 30",
            "sql query part 3": "1 rows up to 50",
        }.items()
    )
    assert {part.name: sorted(part.table["id"].to_pylist()) for part in partitions(made)} == {
        "sql query": ["1", "2"], "sql query part 2": ["3", "4"], "sql query part 3": ["5"], "sql query without changed": ["6"],
    }  # fmt: skip
    change(database, "insert into messages values (7, 'seventh', 70), (8, 'eighth', 80)")
    after = list_partition_versions(made)
    same = [label for label, version in after.items() if before.get(label) == version]
    assert same == ["sql query", "sql query part 2", "sql query without changed"]
    assert [sorted(part.table["id"].to_pylist()) for part in partitions(made, skip=same)] == [
        ["5", "7"],
        ["8"],
    ]


def test_a_watermark_that_is_no_column_is_named_even_where_the_database_would_take_it_for_a_text(
    database: Path,
) -> None:
    with pytest.raises(
        StageError,
        match=r"ingest.watermark: sql messages has no column 'change' \(did you mean changed\?\); it has id, text, changed.",
    ):
        list_partition_versions(source(table="messages", watermark="change"))


@pytest.mark.parametrize(
    "query",
    [
        "delete from messages",
        "update messages set text = 'x'",
        "insert into messages values (9, 'x', 9)",
        "drop table messages",
    ],
)
def test_a_query_that_writes_is_refused_and_changes_nothing(database: Path, query: str) -> None:
    before = list_partition_versions(source(table="messages"))
    with pytest.raises(
        StageError, match="sql query: the database answers: attempt to write a readonly database"
    ):
        list(partitions(source(query=query)))
    assert list_partition_versions(source(table="messages")) == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"table": "mesages"}, "sql mesages: the database answers: no such table: mesages"),
        ({"query": "selec 1"}, 'sql query: the database answers: near "selec": syntax error'),
        ({"table": "messages", "url": "no url at all"}, "ingest.url is not the URL of a database"),
        (
            {"table": "messages", "url": "sqlite:///${DESK_PATH}"},
            "ingest.url names the variable DESK_PATH, which is not set: export it before the run.",
        ),
        (
            {"table": "messages", "url": "oracle://scott:${PASSWORD}@localhost/desk"},
            "the driver of this database is not installed",
        ),
    ],
)
def test_a_database_that_cannot_be_read_ends_with_a_sentence_without_the_password(
    database: Path, settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(StageError) as caught:
        list(partitions(source(**settings)))
    assert sentence in str(caught.value)
    assert "tiger" not in str(caught.value)


def test_the_url_takes_variables_from_the_environment(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_PATH", str(database))
    [part] = partitions(source(url="sqlite:///${DESK_PATH}", table="messages"))
    assert part.table.num_rows == 3


@pytest.mark.parametrize(
    "password", ["a/b", "a#b", "a?b", "a[b", "a@b:c", "100%41", "a b&c=d", "é"]
)
@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://reader:${PASSWORD}@${HOST}/desk",
        "postgresql+psycopg://${READER}@${HOST}/desk",
        "postgresql+psycopg://${HOST}/desk?user=reader&password=${PASSWORD}",
        "${URL}",
    ],
)
def test_any_password_reaches_the_driver_whole(
    monkeypatch: pytest.MonkeyPatch, url: str, password: str
) -> None:
    monkeypatch.setenv("PASSWORD", password)
    monkeypatch.setenv("READER", f"reader:{password}")
    monkeypatch.setenv("HOST", "127.0.0.1:9")
    monkeypatch.setenv("URL", f"postgresql+psycopg://reader:{quote(password, '')}@127.0.0.1:9/desk")
    engine = sql.build_engine(source(url=url, table="x"))
    _, given = engine.dialect.create_connect_args(engine.url)
    expected = {"user": "reader", "password": password, "host": "127.0.0.1", "dbname": "desk"}
    assert {name: given[name] for name in expected} == expected
    assert str(given["port"]) == "9"


def test_a_database_url_that_cannot_be_parsed_shows_nothing_of_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for url in ("postgresql+psycopg://reader:hidden", "postgresql+psycopg://reader:hid/den"):
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(ConfigError, match="ingest.url is not the URL of a database") as caught:
            list(partitions(source(url="${DATABASE_URL}", table="x")))
        assert "hid" not in "".join(traceback.format_exception(caught.value))


def test_table_and_query_exclude_each_other() -> None:
    for settings in ({}, {"table": "a", "query": "select 1"}):
        with pytest.raises(ValidationError, match="needs exactly one of table and query"):
            source(**settings)


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
        'drop schema if exists "Help Desk" cascade', 'create schema "Help Desk"', "create sequence if not exists numbers",
        'create table "Help Desk"."Messages 2026" (id integer, text text, price numeric(10, 2), at timestamptz, image bytea, about jsonb, tags text[], '
        "open boolean)",
        """insert into "Help Desk"."Messages 2026" values
           (2, '100% at 10:30', 1.10, '2026-03-01 12:00:00+02', '\\x89504e47', '{"b": 1, "a": [null]}', '{x,y}', true),
           (1, null, 'NaN', null, null, null, null, false)""",
    )  # fmt: skip
    return started


def desk(server: Server, **settings: str) -> SqlSource:
    return source(**{"url": server.url(), **settings})


def test_postgres_gives_every_type_the_same_text_in_any_time_zone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [
        {"id": "1", "text": None, "price": "NaN", "at": None, "image": None, "about": None, "tags": None, "open": "false"},
        {
            "id": "2", "text": "100% at 10:30", "price": "1.10", "at": "2026-03-01 10:00:00+00:00", "image": b"\x89PNG", "about": '{"a": [null], "b": 1}',
            "tags": '["x", "y"]', "open": "true",
        },
    ]  # fmt: skip
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("PGTZ", zone)
        [part] = partitions(desk(server, table="Help Desk.Messages 2026"))
        assert part.table.to_pylist() == expected


def test_a_query_reaches_postgres_as_it_is_written(server: Server) -> None:
    [part] = partitions(
        desk(
            server,
            query="""select id, 'at 10:30'::text as note from "Help Desk"."Messages 2026" where text like '100%';""",
        )
    )
    assert part.table.to_pylist() == [{"id": "2", "note": "at 10:30"}]


def test_with_a_watermark_the_fingerprint_of_a_postgres_table_follows_inserts(
    server: Server,
) -> None:
    made = desk(server, table="Help Desk.Messages 2026", watermark="id")
    assert list_partition_versions(made) == {"sql Help Desk.Messages 2026": "2 rows up to 2"}
    server.execute("""insert into "Help Desk"."Messages 2026" (id) values (7)""")
    assert list_partition_versions(made) == {"sql Help Desk.Messages 2026": "3 rows up to 7"}
    assert [part.table["id"].to_pylist() for part in partitions(made)] == [["1", "2", "7"]]


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
    made = desk(server, table="Help Desk.Messages 2026")
    before = list_partition_versions(made)
    with pytest.raises(StageError, match="in a read-only transaction"):
        list(partitions(desk(server, query=query)))
    assert list_partition_versions(made) == before


@pytest.mark.parametrize(
    ("settings", "environment", "kind", "sentence"),
    [
        (
            {"table": "nothing"},
            {},
            StageError,
            'sql nothing: the database answers: relation "nothing" does not exist',
        ),
        ({"query": "selec 1"}, {}, StageError, 'syntax error at or near "selec"'),
        ({"query": "select 1/0"}, {}, StageError, "division by zero"),
        ({"query": "set work_mem = '4MB'"}, {}, StageError, "does not return rows"),
        (
            {"query": "select 1 as a, 2 as a"},
            {},
            StageError,
            "sql query gives a more than once: name the columns in ingest.query with AS",
        ),
        ({"query": "select '-infinity'::timestamp as at"}, {}, StageError, "timestamp too small"),
        (
            {"table": "x"},
            {"PG_PASSWORD": "hidden"},
            StageError,
            'password authentication failed for user "reader"',
        ),
        (
            {"table": "x", "database": "nowhere"},
            {},
            StageError,
            'database "nowhere" does not exist',
        ),
        (
            {
                "table": "x",
                "url": "postgresql+psycopg://reader:${PG_PASSWORD}@127.0.0.1:9/postgres",
            },
            {},
            RetryableError,
            "onnection refused",
        ),
        (
            {
                "table": "x",
                "url": "postgresql+psycopg://reader:${PG_PASSWORD}@127.0.0.1:port/postgres",
            },
            {},
            ConfigError,
            "ingest.url is not the URL of a database",
        ),
        (
            {"table": "x", "url": "foo://reader:${PG_PASSWORD}@127.0.0.1/postgres"},
            {},
            ConfigError,
            "the driver of this database is not installed",
        ),
    ],
)
def test_what_postgres_cannot_give_ends_with_a_sentence_without_the_password(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    environment: dict[str, str],
    kind: type[StageError],
    sentence: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    database = settings.get("database", "postgres")
    with pytest.raises(StageError, match=sentence) as caught:
        list(
            partitions(
                source(
                    **{
                        "url": server.url(database),
                        **{name: value for name, value in settings.items() if name != "database"},
                    }
                )
            )
        )
    assert type(caught.value) is kind
    assert not [secret for secret in (postgres.PASSWORD, "hidden") if secret in str(caught.value)]


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
            match="sql query: the database answers|the connection to the database was lost",
        ):
            list(partitions(desk(server, query="select pg_sleep(30)::text as slept")))
        ending.join()
