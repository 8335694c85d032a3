"""Reading and writing the files between steps: always whole, always the same bytes for the same content."""

import contextlib
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.core import errors
from tasks.core.errors import StageError

ROWS_PER_GROUP = 64_000


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write to a temporary neighbour that takes the name `path` only once it is complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Write the files of a folder into a temporary neighbour that takes the name `path`, and the place of what has it, only once they are complete."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Sorted and indented; NaN is refused, since it is not JSON and hides a mistake."""
    write_text(
        path,
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n",
    )


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(
            f"{path} does not exist: run the stage that writes it, with `dvc repro`."
        ) from None
    except ValueError as error:
        raise StageError(
            f"{path} is not valid JSON ({error}): delete it and run `dvc repro`."
        ) from None


def write_csv(path: Path, rows: Iterable[Sequence[Any]], end: str = "\n") -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows(rows)
    write_text(path, buffer.getvalue())


def read_csv(path: Path, columns: Sequence[str], advice: str) -> list[dict[str, str]]:
    """The rows of a table that people write, in UTF-8. Raises Failure where one of these columns is not there, with what to do then."""
    csv.field_size_limit(
        sys.maxsize
    )  # a text of the queue may be longer than the module's 131,072 characters
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for name in columns:
                if name not in (reader.fieldnames or []):
                    raise StageError(
                        f"{path}: there is no column {name!r}; it has {', '.join(reader.fieldnames or ['none'])}: {advice}."
                    )
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(
            f"{path} is not a CSV file in UTF-8 ({errors.first_line(error)}): save it as one."
        ) from None


def write_table(path: Path, table: pa.Table, sort: str = "id") -> None:
    """One Parquet file, rows sorted by `sort`, so that equal content gives equal bytes."""
    if sort in table.column_names and table.num_rows > 1:
        column = table[sort].combine_chunks()
        if not pc.all(pc.less_equal(column[:-1], column[1:]), skip_nulls=False).as_py():
            table = table.sort_by(sort)
    table = table.replace_schema_metadata(None).combine_chunks()
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_PER_GROUP)


def read_table(paths: Path | Sequence[Path], columns: list[str] | None = None) -> pa.Table:
    """The rows of one or several Parquet files, as one Arrow table."""
    tables = []
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            tables.append(pq.read_table(path, columns=columns))
        except FileNotFoundError:
            raise StageError(
                f"{path} does not exist: run the stage that writes it, with `dvc repro`."
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise StageError(
                f"{path} is not a readable Parquet file ({errors.first_line(error)}): it may be truncated; write or copy it again."
            ) from None
    return pa.concat_tables(tables, promote_options="permissive")


def read_rows(folder: Path) -> pa.Table:
    """The rows that a step wrote: from the files that its report names, or from rows.parquet."""
    report = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    return read_table([folder / name for name in report.get("files", ["rows.parquet"])])


def remove_other_files(folder: Path, names: Sequence[str]) -> None:
    """Also what a killed run left half-written."""
    for path in [*folder.glob("*.parquet"), *folder.glob(".*.tmp")]:
        if path.is_file() and path.name not in names:
            path.unlink()


def encode_json(value: Any) -> bytes:
    return (
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()
