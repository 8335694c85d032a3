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
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.ingest import SqlSource
from tasks.rows import table_columns
from tasks.sources.base import RowBatch, SourcePartition, describe_double_encoding, expand_variables

# The session too, lest a query that ends its transaction could write; one time zone, so that equal moments are equal texts.
READ_ONLY_STATEMENTS = {
    "sqlite": ["PRAGMA query_only = ON"],
    "postgresql": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET TIME ZONE 'UTC'",
        "SET TRANSACTION READ ONLY",
    ],
}
PARTITION_ROWS = 100_000  # rows
CONNECT_ARGUMENTS = {"postgresql": {"connect_timeout": 10}}
TRANSIENT_REFUSALS = (
    "starting up",
    "shutting down",
    "too many",
    "terminating",
    "recovery mode",
    "remaining connection slots",
)  # refusals that end by themselves


def iter_partitions(source: SqlSource) -> Iterator[SourcePartition]:
    """All rows at once; with a watermark PART after PART, so that what came before is not read again when rows are added."""
    if source.watermark is None:
        yield build_hashed_partition(describe_source(source), fetch_rows(source))
        return
    marks, missing = read_watermarks(source)
    start, low, number = 0, None, 1
    while start < len(marks):
        end = min(start + PARTITION_ROWS, len(marks))
        while end < len(marks) and marks[end] == marks[end - 1]:
            end += 1
        high = marks[end - 1]
        label = (
            describe_source(source) if number == 1 else f"{describe_source(source)} part {number}"
        )
        yield SourcePartition(
            label,
            f"{end - start} rows up to {high}",
            partial(read_partition, label, end - start, source, low, high),
        )
        start, low, number = end, high, number + 1
    if missing or not marks:
        yield build_hashed_partition(
            f"{describe_source(source)} without {source.watermark}", fetch_rows(source)
        )


def build_hashed_partition(label: str, table: pa.Table) -> SourcePartition:
    """A part that has to be read for its version."""
    digest = hashlib.sha256(
        repr((table.column_names, [column.to_pylist() for column in table.columns])).encode()
    ).hexdigest()
    return SourcePartition(label, digest, lambda: [RowBatch(label, table)])


def read_partition(
    label: str, rows: int, source: SqlSource, low: Any, high: Any
) -> Iterator[RowBatch]:
    table = fetch_rows(source, low, high)
    if table.num_rows != rows:
        raise RetryableError(f"{label} changed while it was read: nothing of this reading is kept.")
    yield RowBatch(label, table)


def read_watermarks(source: SqlSource) -> tuple[list[Any], int]:
    """Those of all rows, sorted, and the number of rows without one."""
    column = source.watermark or ""
    with connect_read_only(source) as connection:
        names = list(
            execute_verbatim(
                connection,
                f"SELECT * FROM ({build_query(source, connection)}) AS source WHERE 1 = 0",  # noqa: S608
            ).keys()
        )
        if column not in names:  # SQLite would take the name for a text
            raise StageError(
                f"ingest.watermark: {describe_source(source)} has no column {column!r}{suggest_nearest(column, names)}; it has {', '.join(names)}."
            )
        mark = connection.dialect.identifier_preparer.quote(column)
        query = f"SELECT {mark} FROM ({build_query(source, connection)}) AS source ORDER BY 1"  # noqa: S608  the recipe's own query
        cells = [row[0] for row in execute_verbatim(connection, query)]
    marks = [cell for cell in cells if cell is not None]
    return marks, len(cells) - len(marks)


def describe_source(source: SqlSource) -> str:
    return f"sql {source.table or 'query'}"


def build_query(source: SqlSource, connection: sqlalchemy.Connection) -> str:
    table = ".".join(
        map(connection.dialect.identifier_preparer.quote, (source.table or "").split("."))
    )
    return (source.query or f"SELECT * FROM {table}").strip().rstrip(";")  # noqa: S608  the recipe's own query


def fetch_rows(source: SqlSource, low: Any = None, high: Any = None) -> pa.Table:
    """All rows or, with a watermark, those above `low` and up to `high`, or those without one; each cell as text or bytes, sorted, since a database
    promises no order and equal rows have to be equal bytes."""
    with connect_read_only(source) as connection:
        query = build_query(source, connection)
        if source.watermark is None:
            result = execute_verbatim(connection, query)
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
            raise StageError(
                f"{describe_source(source)} gives {', '.join(doubled)} more than once: name the columns in ingest.query with AS."
            )
        rows = [
            tuple(
                bytes(cell)
                if isinstance(cell, (bytes, bytearray, memoryview))
                else table_columns.format_cell(cell)
                for cell in row
            )
            for row in result
        ]
    rows.sort(key=lambda row: [(cell is not None, str(cell)) for cell in row])
    return pa.table(
        {column: build_column([row[index] for row in rows]) for index, column in enumerate(names)}
    )


def build_column(cells: list[str | bytes | None]) -> pa.Array:
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


def build_engine(source: SqlSource) -> sqlalchemy.Engine:
    try:
        url = sqlalchemy.make_url(expand_variables(source.url))
        return sqlalchemy.create_engine(
            url,
            hide_parameters=True,
            connect_args=CONNECT_ARGUMENTS.get(url.get_backend_name(), {}),
        )
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"ingest.url: the driver of this database is not installed ({errors.first_line(error)}): install it."
        ) from None
    except (ArgumentError, ValueError):
        raise ConfigError(
            "ingest.url is not the URL of a database: write it as dialect://user:${PASSWORD}@host/database."
        ) from None


@contextlib.contextmanager
def connect_read_only(source: SqlSource) -> Iterator[sqlalchemy.Connection]:
    """A connection in a transaction that cannot write where the database can promise that, and is rolled back everywhere."""
    engine = build_engine(source)
    try:
        with engine.connect() as connection:
            for prepare in READ_ONLY_STATEMENTS.get(engine.dialect.name, []):
                connection.exec_driver_sql(prepare)
            yield connection
            connection.rollback()
    except SQLAlchemyError as error:
        kind = RetryableError if is_transient(error) else StageError
        reason = " ".join(str(getattr(error, "orig", error)).split())[
            :300
        ]  # the driver's own words, in one line
        raise kind(
            f"{describe_source(source)}: the database answers: {reason}: check ingest.url and what is asked of it.{describe_double_encoding(source.url)}"
        ) from None
    finally:
        engine.dispose()


def execute_verbatim(connection: sqlalchemy.Connection, query: str) -> sqlalchemy.CursorResult[Any]:
    """Exactly this text: `:name` and `%` in it are the query's own, no places for parameters."""
    return connection.exec_driver_sql(query, execution_options={"no_parameters": True})


def is_transient(error: SQLAlchemyError) -> bool:
    """Whether the same connection may work later: it was lost or refused for now, not for a wrong name or password."""
    if not isinstance(error, DBAPIError):
        return False
    text = str(error.orig).lower()
    if "fatal:" in text:
        return any(words in text for words in TRANSIENT_REFUSALS)
    return error.connection_invalidated or (
        isinstance(error, OperationalError) and "connect" in text
    )
