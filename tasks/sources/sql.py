"""Databases: a table or a query, read in a transaction that cannot write. No message names the URL, which may hold a password."""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import sqlalchemy
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from tasks.core import errors
from tasks.core.errors import Failure, Mistake, Retryable
from tasks.core.suggest import nearest
from tasks.recipe.ingest import Sql
from tasks.rows import table_columns
from tasks.sources.base import Part, Rows, encoded_twice, expanded

# The session too, lest a query that ends its transaction could write; one time zone, so that equal moments are equal texts.
PREPARED = {
    "sqlite": ["PRAGMA query_only = ON"],
    "postgresql": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET TIME ZONE 'UTC'",
        "SET TRANSACTION READ ONLY",
    ],
}
PART = 100_000  # rows
CONNECT = {"postgresql": {"connect_timeout": 10}}
PASSING = (
    "starting up",
    "shutting down",
    "too many",
    "terminating",
    "recovery mode",
    "remaining connection slots",
)  # refusals that end by themselves


def parts(source: Sql) -> Iterator[Part]:
    """All rows at once; with a watermark PART after PART, so that what came before is not read again when rows are added."""
    if source.watermark is None:
        yield known(name(source), fetched(source))
        return
    marks, missing = watermarks(source)
    start, low, number = 0, None, 1
    while start < len(marks):
        end = min(start + PART, len(marks))
        while end < len(marks) and marks[end] == marks[end - 1]:
            end += 1
        high = marks[end - 1]
        label = name(source) if number == 1 else f"{name(source)} part {number}"
        yield Part(
            label,
            f"{end - start} rows up to {high}",
            partial(unchanged, label, end - start, source, low, high),
        )
        start, low, number = end, high, number + 1
    if missing or not marks:
        yield known(f"{name(source)} without {source.watermark}", fetched(source))


def known(label: str, table: pa.Table) -> Part:
    """A part that has to be read for its version."""
    digest = hashlib.sha256(
        repr((table.column_names, [column.to_pylist() for column in table.columns])).encode()
    ).hexdigest()
    return Part(label, digest, lambda: [Rows(label, table)])


def unchanged(label: str, rows: int, source: Sql, low: Any, high: Any) -> Iterator[Rows]:
    table = fetched(source, low, high)
    if table.num_rows != rows:
        raise Retryable(f"{label} changed while it was read: nothing of this reading is kept.")
    yield Rows(label, table)


def watermarks(source: Sql) -> tuple[list[Any], int]:
    """Those of all rows, sorted, and the number of rows without one."""
    column = source.watermark or ""
    with connected(source) as connection:
        names = list(
            run(
                connection,
                f"SELECT * FROM ({statement(source, connection)}) AS source WHERE 1 = 0",  # noqa: S608
            ).keys()
        )
        if column not in names:  # SQLite would take the name for a text
            raise Failure(
                f"ingest.watermark: {name(source)} has no column {column!r}{nearest(column, names)}; it has {', '.join(names)}."
            )
        mark = connection.dialect.identifier_preparer.quote(column)
        query = f"SELECT {mark} FROM ({statement(source, connection)}) AS source ORDER BY 1"  # noqa: S608  the recipe's own query
        cells = [row[0] for row in run(connection, query)]
    marks = [cell for cell in cells if cell is not None]
    return marks, len(cells) - len(marks)


def name(source: Sql) -> str:
    return f"sql {source.table or 'query'}"


def statement(source: Sql, connection: sqlalchemy.Connection) -> str:
    table = ".".join(
        map(connection.dialect.identifier_preparer.quote, (source.table or "").split("."))
    )
    return (source.query or f"SELECT * FROM {table}").strip().rstrip(";")  # noqa: S608  the recipe's own query


def fetched(source: Sql, low: Any = None, high: Any = None) -> pa.Table:
    """All rows or, with a watermark, those above `low` and up to `high`, or those without one; each cell as text or bytes, sorted, since a database
    promises no order and equal rows have to be equal bytes."""
    with connected(source) as connection:
        query = statement(source, connection)
        if source.watermark is None:
            result = run(connection, query)
        else:
            mark = connection.dialect.identifier_preparer.quote(source.watermark)
            limits = [
                limit
                for end, limit in ((low, f"{mark} > :low"), (high, f"{mark} <= :high"))
                if end is not None
            ] or [f"{mark} IS NULL"]
            escaped = query.replace(":", r"\:")  # its colons are its own
            query = f"SELECT * FROM ({escaped}) AS source WHERE {' AND '.join(limits)}"  # noqa: S608  the recipe's own query
            result = connection.execute(sqlalchemy.text(query), {"low": low, "high": high})
        names = list(result.keys())
        if doubled := sorted({column for column in names if names.count(column) > 1}):
            raise Failure(
                f"{name(source)} gives {', '.join(doubled)} more than once: name the columns in ingest.query with AS."
            )
        rows = [
            tuple(
                bytes(cell)
                if isinstance(cell, (bytes, bytearray, memoryview))
                else table_columns.cell(cell)
                for cell in row
            )
            for row in result
        ]
    rows.sort(key=lambda row: [(cell is not None, str(cell)) for cell in row])
    return pa.table(
        {column: column_of([row[index] for row in rows]) for index, column in enumerate(names)}
    )


def column_of(cells: list[str | bytes | None]) -> pa.Array:
    """Bytes where all are bytes, such as images; else text."""
    if {type(cell) for cell in cells} - {type(None)} == {bytes}:
        return pa.array(cells, pa.binary())
    return pa.array(
        [
            cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else cell
            for cell in cells
        ],
        pa.string(),
    )


def engine_of(source: Sql) -> sqlalchemy.Engine:
    try:
        url = sqlalchemy.make_url(expanded(source.url))
        return sqlalchemy.create_engine(
            url, hide_parameters=True, connect_args=CONNECT.get(url.get_backend_name(), {})
        )
    except (NoSuchModuleError, ImportError) as error:
        raise Mistake(
            f"ingest.url: the driver of this database is not installed ({errors.first_line(error)}): install it."
        ) from None
    except (ArgumentError, ValueError):
        raise Mistake(
            "ingest.url is not the URL of a database: write it as dialect://user:${PASSWORD}@host/database."
        ) from None


@contextlib.contextmanager
def connected(source: Sql) -> Iterator[sqlalchemy.Connection]:
    """A connection in a transaction that cannot write where the database can promise that, and is rolled back everywhere."""
    engine = engine_of(source)
    try:
        with engine.connect() as connection:
            for prepare in PREPARED.get(engine.dialect.name, []):
                connection.exec_driver_sql(prepare)
            yield connection
            connection.rollback()
    except SQLAlchemyError as error:
        kind = Retryable if passes(error) else Failure
        reason = " ".join(str(getattr(error, "orig", error)).split())[
            :300
        ]  # the driver's own words, in one line
        raise kind(
            f"{name(source)}: the database answers: {reason}: check ingest.url and what is asked of it.{encoded_twice(source.url)}"
        ) from None
    finally:
        engine.dispose()


def run(connection: sqlalchemy.Connection, query: str) -> sqlalchemy.CursorResult[Any]:
    """Exactly this text: `:name` and `%` in it are the query's own, no places for parameters."""
    return connection.exec_driver_sql(query, execution_options={"no_parameters": True})


def passes(error: SQLAlchemyError) -> bool:
    """Whether the same connection may work later: it was lost or refused for now, not for a wrong name or password."""
    if not isinstance(error, DBAPIError):
        return False
    text = str(error.orig).lower()
    if "fatal:" in text:
        return any(words in text for words in PASSING)
    return error.connection_invalidated or (
        isinstance(error, OperationalError) and "connect" in text
    )
