"""Databases: a table or a query, read in a transaction that cannot write.

No message shows the URL, which may hold a password.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
from tasks.sources import sqlite
from tasks.sources.base import RowBatch, SourcePartition
from tasks.sources.url_variables import describe_double_encoding, expand_variables

# The session cannot write either, or a query that ends its transaction could. There is one time
# zone, so that equal moments are equal texts.
READ_ONLY_STATEMENTS = {
    "postgresql": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET TIME ZONE 'UTC'",
        "SET TRANSACTION READ ONLY",
        "SET statement_timeout = {milliseconds}",
    ],
}
PARTITION_ROWS = 100_000
CONNECT_ARGUMENTS = {"postgresql": {"connect_timeout": 10}}
MAX_REASON_CHARACTERS = 300
ROWS_PER_CHECK = 1000  # between two looks at the clock
TIMEOUT_WORDS = ("interrupted", "statement timeout")  # of SQLite and PostgreSQL
TRANSIENT_REFUSALS = (  # a server that refuses with these words accepts later
    "starting up",
    "shutting down",
    "too many",
    "terminating",
    "recovery mode",
    "remaining connection slots",
)

BYTES_TYPES = (bytes, bytearray, memoryview)

Mark = object  # a value of the watermark's column, of whatever type the driver gives
Cell = str | bytes | None


@dataclass(frozen=True)
class MarkRange:
    """The rows above one value of the watermark and up to another; without an end all rows."""

    low: Mark = None
    high: Mark = None
    n_rows: int = 0


def iter_partitions(source: SqlSource) -> Iterator[SourcePartition]:
    """Yield all rows at once, or with a watermark `PARTITION_ROWS` at a time, in its order.

    So earlier rows are not read again if rows are added.
    """
    label = describe_source(source)
    if source.watermark is None:
        yield build_hashed_partition(fetch_rows(label, source))
        return
    marks, n_unmarked = read_watermarks(source)
    for number, span in enumerate(split_marks(marks), 1):
        name = label if number == 1 else f"{label} part {number}"
        version = f"{span.n_rows} rows up to {span.high}"
        yield SourcePartition(name, version, partial(read_partition, name, source, span))
    if n_unmarked or not marks:
        name = f"{label} without {source.watermark}"
        yield build_hashed_partition(fetch_rows(name, source, MarkRange()))


def split_marks(marks: list[Mark]) -> Iterator[MarkRange]:
    """Divide sorted watermarks into ranges; rows of one watermark stay together."""
    start = 0
    low = None
    while start < len(marks):
        end = min(start + PARTITION_ROWS, len(marks))
        while end < len(marks) and marks[end] == marks[end - 1]:
            end += 1
        high = marks[end - 1]
        yield MarkRange(low, high, end - start)
        start = end
        low = high


def build_hashed_partition(batch: RowBatch) -> SourcePartition:
    """Return a part whose version is the hash of its rows, which are read already."""
    table = batch.table
    content = (table.column_names, [column.to_pylist() for column in table.columns])
    digest = hashlib.sha256(repr(content).encode()).hexdigest()
    return SourcePartition(batch.name, digest, lambda: [batch])


def read_partition(label: str, source: SqlSource, span: MarkRange) -> Iterator[RowBatch]:
    """Read the rows of a range.

    Raises:
        RetryableError: There are other rows than those that were counted.
    """
    batch = fetch_rows(label, source, span)
    if batch.table.num_rows != span.n_rows:
        raise RetryableError(f"{label} changed while it was read: nothing of it is kept.")
    yield batch


def describe_source(source: SqlSource) -> str:
    """Return the name that messages give the source."""
    return f"sql {source.table or 'query'}"


def read_watermarks(source: SqlSource) -> tuple[list[Mark], int]:
    """Read the watermarks of all rows, sorted, and count the rows without one."""
    assert source.watermark
    with connect_read_only(source, []) as connection:
        query = build_query(source, connection)
        empty = f"SELECT * FROM ({query}) AS source WHERE 1 = 0"  # noqa: S608  the recipe's query
        check_watermark(source, list(execute_verbatim(connection, empty).keys()))
        mark = quote_name(connection, source.watermark)
        ordered = f"SELECT {mark} FROM ({query}) AS source ORDER BY 1"  # noqa: S608
        cells = [row[0] for row in iter_rows(source, execute_verbatim(connection, ordered))]
    marks = [cell for cell in cells if cell is not None]
    return marks, len(cells) - len(marks)


def check_watermark(source: SqlSource, names: list[str]) -> None:
    """Refuse a watermark that is no column: SQLite would take its name for a text."""
    name = source.watermark or ""
    if name not in names:
        raise StageError(
            f"ingest.watermark: {describe_source(source)} has no column "
            f"{name!r}{suggest_nearest(name, names)}; it has {', '.join(names)}."
        )


def build_query(source: SqlSource, connection: sqlalchemy.Connection) -> str:
    """Return the query of the recipe, or one for its table."""
    if source.query:
        return source.query.strip().rstrip(";")
    names = (source.table or "").split(".")
    table = ".".join(quote_name(connection, name) for name in names)
    return f"SELECT * FROM {table}"  # noqa: S608  the names are quoted


def quote_name(connection: sqlalchemy.Connection, name: str) -> str:
    """Quote the name of a table or column as this database needs it."""
    return connection.dialect.identifier_preparer.quote(name)


def fetch_rows(label: str, source: SqlSource, span: MarkRange | None = None) -> RowBatch:
    """Read rows, each cell as text or bytes.

    They are sorted, since a database promises no order and equal rows have to be equal bytes.

    Args:
        label: What messages call the rows.
        source: The table or query.
        span: The rows of these watermarks; if it has no end, those without a watermark. None
            stands for all rows.
    """
    warnings: list[str] = []
    with connect_read_only(source, warnings) as connection:
        query = build_query(source, connection)
        if span is None:
            result = execute_verbatim(connection, query)
        else:
            result = execute_range(connection, query, source.watermark or "", span)
        names = list(result.keys())
        check_names(source, names)
        rows = [convert_row(row) for row in iter_rows(source, result)]
    rows.sort(key=to_sort_key)
    columns = {}
    for index, name in enumerate(names):
        columns[name] = build_column([row[index] for row in rows])
    return RowBatch(label, pa.table(columns), warnings=[f"{label}: {item}" for item in warnings])


def iter_rows(
    source: SqlSource, result: sqlalchemy.CursorResult[Any]
) -> Iterator[sqlalchemy.Row[Any]]:
    """Yield the rows of a result, up to the limits of the source.

    Raises:
        StageError: There are more rows, it takes longer, or the driver cannot read a value.
    """
    deadline = time.monotonic() + source.max_seconds
    try:
        for number, row in enumerate(result):
            if number >= source.max_rows:
                raise StageError(
                    f"{describe_source(source)} gives more than {source.max_rows:,} rows: raise "
                    "ingest.max_rows if that is right, or select fewer in ingest.query."
                )
            if number % ROWS_PER_CHECK == 0 and time.monotonic() > deadline:
                raise StageError(describe_timeout(source))
            yield row
    except (ValueError, ArithmeticError) as error:  # a date or text that Python does not have
        raise StageError(
            f"{describe_source(source)} gives a value that cannot be read "
            f"({errors.first_line(error)}): correct it, or have ingest.query cast it to text."
        ) from None


def describe_timeout(source: SqlSource) -> str:
    """Describe a query that takes too long."""
    return (
        f"{describe_source(source)} takes more than {source.max_seconds:g} seconds: raise "
        "ingest.max_seconds if that is right, or select fewer rows in ingest.query."
    )


def execute_range(
    connection: sqlalchemy.Connection, query: str, watermark: str, span: MarkRange
) -> sqlalchemy.CursorResult[Any]:
    """Select the rows of a query that are in a range."""
    mark = quote_name(connection, watermark)
    limits = []
    if span.low is not None:
        limits.append(f"{mark} > :low")
    if span.high is not None:
        limits.append(f"{mark} <= :high")
    condition = " AND ".join(limits) or f"{mark} IS NULL"
    escaped = query.replace(":", r"\:")  # its colons are its own
    # The query is the recipe's own.
    ranged = f"SELECT * FROM ({escaped}) AS source WHERE {condition}"  # noqa: S608
    return connection.execute(sqlalchemy.text(ranged), {"low": span.low, "high": span.high})


def execute_verbatim(connection: sqlalchemy.Connection, query: str) -> sqlalchemy.CursorResult[Any]:
    """Execute exactly this text: `:name` and `%` in it are no places for parameters."""
    options = {"no_parameters": True, "stream_results": True}
    return connection.exec_driver_sql(query, execution_options=options)


def check_names(source: SqlSource, names: list[str]) -> None:
    """Refuse a result with two columns of one name."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StageError(
            f"{describe_source(source)} gives {', '.join(repeated)} more than once: name the "
            "columns in ingest.query with AS."
        )


def convert_row(row: Iterable[object]) -> tuple[Cell, ...]:
    """Return the driver's values as text or bytes."""
    return tuple(
        bytes(cell) if isinstance(cell, BYTES_TYPES) else table_columns.format_cell(cell)
        for cell in row
    )


def to_sort_key(row: tuple[Cell, ...]) -> list[tuple[bool, str]]:
    """Return what rows are sorted by: their cells as text, missing ones first."""
    return [(cell is not None, str(cell)) for cell in row]


def build_column(cells: list[Cell]) -> pa.Array:
    """Return bytes if all cells are bytes, such as images, else text."""
    types = {type(cell) for cell in cells if cell is not None}
    if types == {bytes}:
        return pa.array(cells, pa.binary())
    texts = [
        cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else cell
        for cell in cells
    ]
    return pa.array(texts, pa.string())


def build_engine(source: SqlSource, warnings: list[str]) -> sqlalchemy.Engine:
    """Return the engine for the database; nothing is sent yet.

    Args:
        source: The database.
        warnings: To which is appended what people should know of its values.

    Raises:
        ConfigError: The URL is none of a database, or its driver is not installed.
    """
    try:
        url = sqlalchemy.make_url(expand_variables(source.url))
        if sqlite.is_sqlite(url):
            creator = sqlite.build_creator(url, source.max_seconds, warnings)
            return sqlalchemy.create_engine("sqlite://", hide_parameters=True, creator=creator)
        arguments = CONNECT_ARGUMENTS.get(url.get_backend_name(), {})
        return sqlalchemy.create_engine(url, hide_parameters=True, connect_args=arguments)
    except (NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            "ingest.url: the driver of this database is not installed "
            f"({errors.first_line(error)}): install it."
        ) from None
    except (ArgumentError, ValueError):
        raise ConfigError(
            "ingest.url is not the URL of a database: write it as "
            "dialect://user:${PASSWORD}@host/database."
        ) from None


@contextlib.contextmanager
def connect_read_only(source: SqlSource, warnings: list[str]) -> Iterator[sqlalchemy.Connection]:
    """Open a connection in a transaction that is rolled back.

    It cannot write, if the database can promise that.

    Raises:
        StageError: The database refuses.
        RetryableError: The connection is lost, or refused for now.
    """
    engine = build_engine(source, warnings)
    try:
        with engine.connect() as connection:
            for statement in READ_ONLY_STATEMENTS.get(engine.dialect.name, []):
                milliseconds = max(1, round(source.max_seconds * 1000))
                connection.exec_driver_sql(statement.format(milliseconds=milliseconds))
            yield connection
            connection.rollback()
    except SQLAlchemyError as error:
        error_type = RetryableError if is_transient(error) else StageError
        raise error_type(describe_database_error(source, error)) from None
    finally:
        engine.dispose()


def describe_database_error(source: SqlSource, error: SQLAlchemyError) -> str:
    """Describe an error in the driver's own words, on one line."""
    words = str(getattr(error, "orig", error)).split()
    reason = " ".join(words)[:MAX_REASON_CHARACTERS]
    if any(text in reason for text in TIMEOUT_WORDS):
        return describe_timeout(source)
    if reason == sqlite.DENIAL:
        reason = "the query does more than read this file, which is not allowed"
    return (
        f"{describe_source(source)}: the database answers: {reason}: check ingest.url, and the "
        f"table or query.{describe_double_encoding(source.url)}"
    )


def is_transient(error: SQLAlchemyError) -> bool:
    """Return whether the same connection may work later.

    That is so if it was lost or refused for now, not if the name or password is wrong.
    """
    if not isinstance(error, DBAPIError):
        return False
    reason = str(error.orig).lower()
    if "fatal:" in reason:
        return is_transient_refusal(reason)
    return error.connection_invalidated or is_connection_error(error)


def is_transient_refusal(reason: str) -> bool:
    """Return whether a server that refuses with these words may accept later."""
    return any(words in reason for words in TRANSIENT_REFUSALS)


def is_connection_error(error: DBAPIError) -> bool:
    """Return whether no connection was made, or it was lost."""
    return isinstance(error, OperationalError) and "connect" in str(error.orig).lower()
