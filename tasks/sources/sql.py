"""Databases: a table or a query, read in a transaction that cannot write. No message names the URL, which may hold a password."""

import contextlib
import hashlib
from collections.abc import Iterator

import pyarrow as pa
import sqlalchemy
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from tasks import files
from tasks.recipe import Sql
from tasks.sources import Partition, expanded
from tasks.step import Failure, Mistake, Retryable

READ_ONLY = {"sqlite": "PRAGMA query_only = ON", "postgresql": "SET TRANSACTION READ ONLY"}


def fingerprint(source: Sql) -> dict[str, str]:
    if source.watermark is None:
        return {name(source): digest(fetched(source))}
    with connected(source) as connection:
        column = connection.dialect.identifier_preparer.quote(source.watermark)
        query = f"SELECT COUNT(*), MAX({column}) FROM ({statement(source, connection)}) AS source"  # noqa: S608  the recipe's own query
        count, newest = connection.execute(sqlalchemy.text(query)).one()
    return {name(source): f"{count} rows up to {newest}"}


def partitions(source: Sql) -> Iterator[Partition]:
    table = fetched(source)
    yield Partition(name(source), digest(table), table)


def name(source: Sql) -> str:
    return f"sql {source.table or 'query'}"


def digest(table: pa.Table) -> str:
    return hashlib.sha256(repr((table.column_names, [column.to_pylist() for column in table.columns])).encode()).hexdigest()


def statement(source: Sql, connection: sqlalchemy.Connection) -> str:
    quote = connection.dialect.identifier_preparer.quote
    table = ".".join(quote(part) for part in (source.table or "").split("."))
    return (source.query or f"SELECT * FROM {table}").strip().rstrip(";")  # noqa: S608  the recipe's own query


def fetched(source: Sql) -> pa.Table:
    """All rows, each cell as text, sorted, since a database promises no order and equal rows have to be equal bytes."""
    with connected(source) as connection:
        result = connection.execute(sqlalchemy.text(statement(source, connection)))
        names = list(result.keys())
        rows = [tuple(None if cell is None else str(cell) for cell in row) for row in result]
    rows.sort(key=lambda row: [(cell is not None, cell or "") for cell in row])
    return pa.table({column: pa.array([row[index] for row in rows], pa.string()) for index, column in enumerate(names)})


@contextlib.contextmanager
def connected(source: Sql) -> Iterator[sqlalchemy.Connection]:
    """A connection in a transaction that cannot write where the database can promise that, and is rolled back everywhere."""
    engine = None
    try:
        engine = sqlalchemy.create_engine(expanded(source.url), hide_parameters=True)
        with engine.connect() as connection:
            if engine.dialect.name in READ_ONLY:
                connection.execute(sqlalchemy.text(READ_ONLY[engine.dialect.name]))
            yield connection
            connection.rollback()
    except ArgumentError:
        raise Mistake("ingest.url is not the URL of a database: write it as dialect://user:${PASSWORD}@host/database.") from None
    except (NoSuchModuleError, ImportError) as error:
        raise Mistake(f"ingest.url: the driver of this database is not installed ({files.first_line(error)}): install it.") from None
    except OperationalError as error:
        kind = Retryable if error.connection_invalidated or "connect" in str(error.orig).lower() else Failure
        raise kind(f"{name(source)}: the database answers: {reason(error)}.") from None
    except SQLAlchemyError as error:
        raise Failure(f"{name(source)}: the database answers: {reason(error)}: correct ingest.query or ingest.table.") from None
    finally:
        if engine:
            engine.dispose()


def reason(error: SQLAlchemyError) -> str:
    """The driver's own words, in one line."""
    return " ".join(str(getattr(error, "orig", error)).split())[:300]
