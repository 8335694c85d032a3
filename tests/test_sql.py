"""Rows of a database, read and never written."""

import sqlite3
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.recipe import Sql
from tasks.sources import fingerprint, partitions
from tasks.step import Failure


@pytest.fixture
def database(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", "tiger")
    with sqlite3.connect(here / "desk.db") as connection:
        connection.execute("create table messages (id integer, text text, changed integer)")
        connection.executemany("insert into messages values (?, ?, ?)", [(2, "second", 20), (1, None, 10), (3, "third", 30)])
    connection.close()
    return here / "desk.db"


def source(**settings: str) -> Sql:
    return Sql.model_validate({"kind": "sql", "url": "sqlite:///desk.db", **settings})


def change(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


def test_a_table_and_a_query_give_their_rows_as_text_in_an_order_of_their_own(database: Path) -> None:
    [whole] = partitions(source(table="messages"))
    assert whole.table.to_pylist() == [
        {"id": "1", "text": None, "changed": "10"}, {"id": "2", "text": "second", "changed": "20"}, {"id": "3", "text": "third", "changed": "30"},
    ]  # fmt: skip
    [some] = partitions(source(query="select id, text from messages where changed > 10 order by id desc;"))
    assert some.table.to_pylist() == [{"id": "2", "text": "second"}, {"id": "3", "text": "third"}]


@pytest.mark.parametrize("settings", [{"table": "messages"}, {"table": "messages", "watermark": "changed"}, {"query": "select * from messages"}])
def test_the_fingerprint_changes_with_the_rows_and_only_with_them(database: Path, settings: dict[str, str]) -> None:
    before = fingerprint(source(**settings))
    assert fingerprint(source(**settings)) == before
    change(database, "insert into messages values (4, 'fourth', 40)")
    assert fingerprint(source(**settings)) != before


@pytest.mark.parametrize("query", ["delete from messages", "update messages set text = 'x'", "insert into messages values (9, 'x', 9)", "drop table messages"])
def test_a_query_that_writes_is_refused_and_changes_nothing(database: Path, query: str) -> None:
    before = fingerprint(source(table="messages"))
    with pytest.raises(Failure, match="sql query: the database answers: attempt to write a readonly database"):
        list(partitions(source(query=query)))
    assert fingerprint(source(table="messages")) == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"table": "mesages"}, "sql mesages: the database answers: no such table: mesages"),
        ({"query": "selec 1"}, 'sql query: the database answers: near "selec": syntax error'),
        ({"table": "messages", "url": "no url at all"}, "ingest.url is not the URL of a database"),
        ({"table": "messages", "url": "sqlite:///${DESK_PATH}"}, "ingest.url names the variable DESK_PATH, which is not set: export it before the run."),
        ({"table": "messages", "url": "oracle://scott:${PASSWORD}@localhost/desk"}, "the driver of this database is not installed"),
    ],
)
def test_a_database_that_cannot_be_read_ends_with_a_sentence_without_the_password(database: Path, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(Failure) as caught:
        list(partitions(source(**settings)))
    assert sentence in str(caught.value)
    assert "tiger" not in str(caught.value)


def test_the_url_takes_variables_from_the_environment(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESK_PATH", str(database))
    [part] = partitions(source(url="sqlite:///${DESK_PATH}", table="messages"))
    assert part.table.num_rows == 3


def test_table_and_query_exclude_each_other() -> None:
    for settings in ({}, {"table": "a", "query": "select 1"}):
        with pytest.raises(ValidationError, match="needs exactly one of table and query"):
            source(**settings)
