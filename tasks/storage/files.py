"""The files between stages: always written whole, with equal bytes for equal content."""

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
FILE_MODE = 0o644
PRIVATE_MODE = 0o600
FOLDER_MODE = 0o755


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour that takes the name `path` once it is complete and on disk."""
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
    """Yield a temporary neighbour that replaces the folder `path` once it is complete."""
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_readable(folder: Path) -> None:
    """Give all files below a folder one mode, which lets everybody read them.

    Libraries that write by way of a temporary file leave some that their owner alone can read.
    """
    for path in [folder, *folder.rglob("*")]:
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that is deleted afterwards, or by the next call if it was killed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write_private(path: Path, data: bytes) -> None:
    """Write a file, whole, that only its owner may read."""
    with atomic_file(path) as temporary:
        temporary.touch(PRIVATE_MODE)
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def format_json(value: Any) -> str:
    """Return sorted, indented JSON. NaN is refused: it is not JSON, and it hides a mistake."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def encode_json(value: Any) -> bytes:
    """Return sorted, indented JSON as UTF-8."""
    return format_json(value).encode()


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON, whole."""
    write_text(path, format_json(value))


def read_json(path: Path) -> Any:
    """Read JSON that a stage wrote.

    Raises:
        StageError: The file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing_file_error(path) from None
    except ValueError as error:
        raise StageError(
            f"{path} is not valid JSON ({error}): delete it and run `dvc repro`."
        ) from None


def missing_file_error(path: Path) -> StageError:
    """Return the error for an output that no stage has written yet."""
    return StageError(f"{path} does not exist: run the stage that writes it, with `dvc repro`.")


def write_csv(path: Path, rows: Iterable[Sequence[Any]], end: str = "\n") -> None:
    """Write a table of cells, the header first, with lines that end in `end`."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows(rows)
    write_text(path, buffer.getvalue())


def read_csv(path: Path, columns: Sequence[str], advice: str) -> list[dict[str, str]]:
    """Read a UTF-8 table that people write.

    Args:
        path: The file.
        columns: The columns that it must have.
        advice: What to do if one is missing, as the end of a sentence.

    Raises:
        StageError: The file is not UTF-8 CSV, or a column is missing.
    """
    csv.field_size_limit(sys.maxsize)  # a text may be longer than the default 131,072 characters
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            check_columns(path, columns, reader.fieldnames or [], advice)
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        reason = errors.first_line(error)
        raise StageError(f"{path} is not a CSV file in UTF-8 ({reason}): save it as one.") from None


def check_columns(path: Path, columns: Sequence[str], actual: Sequence[str], advice: str) -> None:
    """Raise StageError if a table lacks one of the columns."""
    missing = [name for name in columns if name not in actual]
    if not missing:
        return
    listed = ", ".join(actual) or "none"
    raise StageError(f"{path}: there is no column {missing[0]!r}; it has {listed}: {advice}.")


def write_table(path: Path, table: pa.Table, sort: str = "id") -> None:
    """Write one Parquet file with its rows sorted, so that equal content gives equal bytes.

    Args:
        path: The file.
        table: The rows, in any order.
        sort: The column to sort by, if the table has it.
    """
    if sort in table.column_names and not is_sorted(table[sort]):
        table = table.sort_by(sort)
    table = table.replace_schema_metadata(None).combine_chunks()
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_PER_GROUP)


def is_sorted(column: pa.ChunkedArray) -> bool:
    """Return whether no value is greater than the next; a null makes it unknown, so False."""
    if len(column) < 2:
        return True
    values = column.combine_chunks()
    in_order = pc.less_equal(values[:-1], values[1:])
    return bool(pc.all(in_order, skip_nulls=False).as_py())


def read_table(paths: Path | Sequence[Path], columns: list[str] | None = None) -> pa.Table:
    """Read one or several Parquet files as one table.

    Raises:
        StageError: A file is missing or unreadable.
    """
    single = [paths] if isinstance(paths, Path) else paths
    tables = [read_parquet(path, columns) for path in single]
    return pa.concat_tables(tables, promote_options="permissive")


def read_parquet(path: Path, columns: list[str] | None) -> pa.Table:
    """Read one Parquet file; raise StageError if it is missing or unreadable."""
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise missing_file_error(path) from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = errors.first_line(error)
        raise StageError(
            f"{path} is not a readable Parquet file ({reason}): it may be truncated; "
            "write or copy it again."
        ) from None


def read_rows(folder: Path) -> pa.Table:
    """Read the rows that a stage passed on: the files that its report names, or rows.parquet."""
    report = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    return read_table([folder / name for name in report.get("files", ["rows.parquet"])])


def remove_other_files(folder: Path, names: Sequence[str]) -> None:
    """Delete Parquet files that are not named, and what a killed run left half-written."""
    candidates = [*folder.glob("*.parquet"), *folder.glob(".*.tmp")]
    for path in candidates:
        is_kept = path.is_dir() or path.name in names
        if not is_kept:
            path.unlink()
