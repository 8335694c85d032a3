"""Rows of a database, read and never written, here of SQLite."""

import contextlib
import os
import sqlite3
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import ValidationError

from tasks.core.errors import ConfigError, StageError
from tasks.recipe.ingest import SqlSource
from tasks.sources import list_partition_versions, sql, sqlite
from tasks.sources.base import RowBatch
from tests.conftest import read_batches


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
    [whole] = read_batches(source(table="messages"))
    assert whole.table.to_pylist() == [
        {"id": "1", "text": None, "changed": "10"},
        {"id": "2", "text": "second", "changed": "20"},
        {"id": "3", "text": "third", "changed": "30"},
    ]
    [some] = read_batches(
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


def sorted_ids(batch: RowBatch) -> list[str]:
    ids: list[str] = batch.table["id"].to_pylist()
    return sorted(ids)


def test_with_a_watermark_only_the_part_with_new_rows_is_read_and_none_is_lost(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "PARTITION_ROWS", 2)
    change(
        database,
        "insert into messages values (4, ':4 %', 30), (5, 'fifth', 50), (6, 'no mark', null)",
    )
    marked = source(
        query="select *, ':x' as colon, '10%' as percent from messages", watermark="changed"
    )
    before = list_partition_versions(marked)
    digest = before.pop("sql query without changed")
    assert before == {
        "sql query": "2 rows up to 20",
        "sql query part 2": "2 rows up to 30",
        "sql query part 3": "1 rows up to 50",
    }
    before["sql query without changed"] = digest
    assert {batch.name: sorted_ids(batch) for batch in read_batches(marked)} == {
        "sql query": ["1", "2"],
        "sql query part 2": ["3", "4"],
        "sql query part 3": ["5"],
        "sql query without changed": ["6"],
    }
    change(database, "insert into messages values (7, 'seventh', 70), (8, 'eighth', 80)")
    after = list_partition_versions(marked)
    same = [label for label, version in after.items() if before.get(label) == version]
    assert same == ["sql query", "sql query part 2", "sql query without changed"]
    new = list(read_batches(marked, skip=same))
    assert [sorted_ids(batch) for batch in new] == [["5", "7"], ["8"]]


def test_a_watermark_that_is_no_column_is_refused_by_its_name(
    database: Path,
) -> None:
    with pytest.raises(
        StageError,
        match=r"ingest.watermark: sql messages has no column 'change' "
        r"\(did you mean changed\?\); it has id, text, changed.",
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
        StageError, match="sql query: the database answers: the query does more than read this file"
    ):
        list(read_batches(source(query=query)))
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
        list(read_batches(source(**settings)))
    assert sentence in str(caught.value)
    assert "tiger" not in str(caught.value)


def test_the_url_takes_variables_from_the_environment(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_PATH", str(database))
    [part] = read_batches(source(url="sqlite:///${DESK_PATH}", table="messages"))
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
    engine = sql.build_engine(source(url=url, table="x"), [])
    _, arguments = engine.dialect.create_connect_args(engine.url)
    expected = {"user": "reader", "password": password, "host": "127.0.0.1", "dbname": "desk"}
    assert {name: arguments[name] for name in expected} == expected
    assert str(arguments["port"]) == "9"


def test_a_database_url_that_cannot_be_parsed_shows_nothing_of_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for url in ("postgresql+psycopg://reader:hidden", "postgresql+psycopg://reader:hid/den"):
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(ConfigError, match=r"ingest.url is not the URL of a database") as caught:
            list(read_batches(source(url="${DATABASE_URL}", table="x")))
        assert "hid" not in "".join(traceback.format_exception(caught.value))


def test_table_and_query_exclude_each_other() -> None:
    for settings in ({}, {"table": "a", "query": "select 1"}):
        with pytest.raises(ValidationError, match="needs exactly one of table and query"):
            source(**settings)


@pytest.mark.parametrize("name", ["desc.db", ".", "pipe"])
def test_a_mistyped_path_creates_no_database(database: Path, name: str) -> None:
    os.mkfifo("pipe")
    before = sorted(path.name for path in Path().iterdir())
    with pytest.raises(StageError, match="is not a file here"):
        list(read_batches(source(url=f"sqlite:///{name}", table="messages")))
    assert sorted(path.name for path in Path().iterdir()) == before


def test_a_database_whose_writer_keeps_a_log_is_read(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("insert into messages values (4, 'fourth', 40)")
        writer.commit()
        [batch] = read_batches(source(table="messages"))
    assert batch.table.num_rows == 4


def test_text_that_is_not_utf_8_is_a_warning(database: Path) -> None:
    change(database, "update messages set text = cast(x'c3a9ff' as text) where id = 1")
    [batch] = read_batches(source(table="messages"))
    assert batch.table["text"].to_pylist() == [r"é\xff", "second", "third"]
    assert batch.warnings == [f"sql messages: {sqlite.WRONG_TEXT_WARNING}"]
