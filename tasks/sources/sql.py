"""Databases: a table or a query, read in a transaction that cannot write. No message names the URL, which may hold a password."""

import contextlib
import hashlib
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import sqlalchemy
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, SQLAlchemyError

from tasks import files
from tasks.mistakes import nearest
from tasks.recipe import Sql
from tasks.sources import Partition, expanded
from tasks.step import Failure, Mistake, Retryable

# The session too, lest a query that ends its transaction could write; one time zone, so that equal moments are equal texts.
PREPARED = {
    "sqlite": ["PRAGMA query_only = ON"],
    "postgresql": ["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET TIME ZONE 'UTC'", "SET TRANSACTION READ ONLY"],
}
PART = 100_000  # rows
CONNECT = {"postgresql": {"connect_timeout": 10}}
PASSING = ("starting up", "shutting down", "too many", "terminating", "recovery mode", "remaining connection slots")  # refusals that end by themselves


@dataclass(frozen=True)
class Part:
    """Consecutive rows in the order of the watermark: those above `low` (None: from the first) and up to `high`."""

    low: Any
    high: Any
    rows: int


def fingerprint(source: Sql) -> dict[str, str]:
    if source.watermark is None:
        return {name(source): digest(fetched(source))}
    found = {label: f"{part.rows} rows up to {part.high}" for label, part in divided(source).items()}
    rest = unmarked(source)
    return found | ({rest.name: rest.sha256} if rest.table.num_rows or not found else {})


def partitions(source: Sql, skip: Container[str] = ()) -> Iterator[Partition]:
    """All rows at once; with a watermark PART after PART, so that what came before is not read again when rows are added."""
    if source.watermark is None:
        if name(source) not in skip:
            table = fetched(source)
            yield Partition(name(source), digest(table), table)
        return
    parts = divided(source)
    for label, part in parts.items():
        if label not in skip:
            table = fetched(source, part)
            if table.num_rows != part.rows:
                raise Retryable(f"{label} changed while it was read: nothing of this reading is kept.")
            yield Partition(label, digest(table), table)
    rest = unmarked(source)
    if rest.table.num_rows or not parts:
        yield rest


def divided(source: Sql) -> dict[str, Part]:
    """The parts by name: at most PART rows, and those that share the last one's watermark."""
    with connected(source) as connection:
        names = list(run(connection, f"SELECT * FROM ({statement(source, connection)}) AS source WHERE 1 = 0").keys())  # noqa: S608  the recipe's own query
        if source.watermark not in names:  # SQLite would take the name for a text
            raise Failure(
                f"ingest.watermark: {name(source)} has no column {source.watermark!r}{nearest(source.watermark or '', names)}; it has {', '.join(names)}."
            )
        column = connection.dialect.identifier_preparer.quote(source.watermark or "")
        query = f"SELECT {column} FROM ({statement(source, connection)}) AS source WHERE {column} IS NOT NULL ORDER BY {column}"  # noqa: S608
        marks = [row[0] for row in run(connection, query)]
    parts: dict[str, Part] = {}
    start, low = 0, None
    while start < len(marks):
        end = min(start + PART, len(marks))
        while end < len(marks) and marks[end] == marks[end - 1]:
            end += 1
        parts[name(source) if not parts else f"{name(source)} part {len(parts) + 1}"] = Part(low, marks[end - 1], end - start)
        start, low = end, marks[end - 1]
    return parts


def unmarked(source: Sql) -> Partition:
    """The rows whose watermark is null."""
    table = fetched(source, Part(None, None, 0))
    return Partition(f"{name(source)} without {source.watermark}", digest(table), table)


def name(source: Sql) -> str:
    return f"sql {source.table or 'query'}"


def digest(table: pa.Table) -> str:
    return hashlib.sha256(repr((table.column_names, [column.to_pylist() for column in table.columns])).encode()).hexdigest()


def statement(source: Sql, connection: sqlalchemy.Connection) -> str:
    quote = connection.dialect.identifier_preparer.quote
    table = ".".join(quote(part) for part in (source.table or "").split("."))
    return (source.query or f"SELECT * FROM {table}").strip().rstrip(";")  # noqa: S608  the recipe's own query


def fetched(source: Sql, part: Part | None = None) -> pa.Table:
    """The rows of a part, or all, each cell as text or bytes, sorted, since a database promises no order and equal rows have to be equal bytes."""
    with connected(source) as connection:
        result = chosen(source, part, connection) if part else run(connection, statement(source, connection))
        names = list(result.keys())
        doubled = sorted({column for column in names if names.count(column) > 1})
        if doubled:
            raise Failure(f"{name(source)} gives {', '.join(doubled)} more than once: name the columns in ingest.query with AS.")
        rows = [tuple(cell_of(cell) for cell in row) for row in result]
    rows.sort(key=lambda row: [(cell is not None, str(cell)) for cell in row])
    return pa.table({column: column_of([row[index] for row in rows]) for index, column in enumerate(names)})


def chosen(source: Sql, part: Part, connection: sqlalchemy.Connection) -> sqlalchemy.CursorResult[Any]:
    column = connection.dialect.identifier_preparer.quote(source.watermark or "")
    limits = {"low": f"{column} > :low", "high": f"{column} <= :high"}
    given = {end: getattr(part, end) for end in limits if getattr(part, end) is not None}
    where = " AND ".join(limits[end] for end in given) or f"{column} IS NULL"
    inner = statement(source, connection).replace(":", r"\:")  # its colons are its own
    return connection.execute(sqlalchemy.text(f"SELECT * FROM ({inner}) AS source WHERE {where}"), given)  # noqa: S608  the recipe's own query


def cell_of(cell: Any) -> str | bytes | None:
    if cell is None or isinstance(cell, (str, bytes)):
        return cell
    if isinstance(cell, (memoryview, bytearray)):
        return bytes(cell)
    return json.dumps(cell, ensure_ascii=False, default=str) if isinstance(cell, (dict, list, bool)) else str(cell)


def column_of(cells: list[str | bytes | None]) -> pa.Array:
    """Bytes where all are bytes, such as images; else text."""
    if any(isinstance(cell, bytes) for cell in cells) and not any(isinstance(cell, str) for cell in cells):
        return pa.array(cells, pa.binary())
    return pa.array([cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else cell for cell in cells], pa.string())


def engine_of(source: Sql) -> sqlalchemy.Engine:
    try:
        url = sqlalchemy.make_url(expanded(source.url))
        return sqlalchemy.create_engine(url, hide_parameters=True, connect_args=CONNECT.get(url.get_backend_name(), {}))
    except (NoSuchModuleError, ImportError) as error:
        raise Mistake(f"ingest.url: the driver of this database is not installed ({files.first_line(error)}): install it.") from None
    except (ArgumentError, ValueError):
        raise Mistake("ingest.url is not the URL of a database: write it as dialect://user:${PASSWORD}@host/database.") from None


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
    except OperationalError as error:
        kind = Retryable if passes(error) else Failure
        raise kind(f"{name(source)}: the database answers: {reason(error)}.") from None
    except SQLAlchemyError as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise Retryable(f"{name(source)}: the connection to the database was lost: {reason(error)}.") from None
        raise Failure(f"{name(source)}: the database answers: {reason(error)}: correct ingest.query or ingest.table.") from None
    finally:
        engine.dispose()


def run(connection: sqlalchemy.Connection, query: str) -> sqlalchemy.CursorResult[Any]:
    """Exactly this text: `:name` and `%` in it are the query's own, no places for parameters."""
    return connection.exec_driver_sql(query, execution_options={"no_parameters": True})


def passes(error: OperationalError) -> bool:
    """Whether the same connection may work later: it was lost or refused for now, not for a wrong name or password."""
    text = str(error.orig).lower()
    if "fatal:" in text:
        return any(words in text for words in PASSING)
    return error.connection_invalidated or "connect" in text


def reason(error: SQLAlchemyError) -> str:
    """The driver's own words, in one line."""
    return " ".join(str(getattr(error, "orig", error)).split())[:300]
