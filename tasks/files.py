"""Reading and writing the files between steps: always whole, always the same bytes for the same content."""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.mistakes import nearest
from tasks.step import Failure

ROW_GROUP = 64_000
LIBRARIES = (
    "charset-normalizer",
    "daft",
    "ftfy",
    "imagehash",
    "phonenumbers",
    "pillow",
    "presidio-analyzer",
    "py3langid",
    "pyarrow",
    "rensa",
    "tldextract",
)
ORDINARY_ID = "data.id"  # what a source's column id is called where it does not name the rows
ROLES = (
    "id",
    "label",
    "label_source",
    "label_confidence",
    "fold",
)  # columns that are about a row, not its content


def folder_of(recipe: str) -> Path:
    """Where a recipe's stage outputs lie."""
    return Path("data") / recipe


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
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
def whole_folder(path: Path) -> Iterator[Path]:
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
    with whole(path) as temporary:
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
        raise Failure(
            f"{path} does not exist: run the stage that writes it, with `dvc repro`."
        ) from None
    except ValueError as error:
        raise Failure(
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
                    raise Failure(
                        f"{path}: there is no column {name!r}; it has {', '.join(reader.fieldnames or ['none'])}: {advice}."
                    )
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Failure(
            f"{path} is not a CSV file in UTF-8 ({first_line(error)}): save it as one."
        ) from None


def write_table(path: Path, table: pa.Table, sort: str = "id") -> None:
    """One Parquet file, rows sorted by `sort`, so that equal content gives equal bytes."""
    if sort in table.column_names and table.num_rows > 1:
        column = table[sort].combine_chunks()
        if not pc.all(pc.less_equal(column[:-1], column[1:]), skip_nulls=False).as_py():
            table = table.sort_by(sort)
    table = table.replace_schema_metadata(None).combine_chunks()
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROW_GROUP)


def read_table(paths: Path | Sequence[Path], columns: list[str] | None = None) -> pa.Table:
    """The rows of one or several Parquet files, as one Arrow table."""
    tables = []
    for path in [paths] if isinstance(paths, Path) else paths:
        try:
            tables.append(pq.read_table(path, columns=columns))
        except FileNotFoundError:
            raise Failure(
                f"{path} does not exist: run the stage that writes it, with `dvc repro`."
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            raise Failure(
                f"{path} is not a readable Parquet file ({first_line(error)}): it may be truncated; write or copy it again."
            ) from None
    return pa.concat_tables(tables, promote_options="permissive")


def read_rows(folder: Path) -> pa.Table:
    """The rows that a step wrote: from the files that its report names, or from rows.parquet."""
    report = read_json(folder / "report.json") if (folder / "report.json").is_file() else {}
    return read_table([folder / name for name in report.get("files", ["rows.parquet"])])


def column(table: pa.Table, name: str, key: str) -> pa.ChunkedArray:
    """The column that this key of the recipe names. Raises Failure where there is none."""
    if name == "id" and ORDINARY_ID in table.column_names:
        raise Failure(
            f"{key}: the source's column 'id' is kept as {ORDINARY_ID!r}, since it does not name the rows: write {ORDINARY_ID} here."
        )
    if name not in table.column_names:
        raise Failure(
            f"{key}: the data has no column {name!r}{nearest(name, table.column_names)}; it has {', '.join(table.column_names)}."
        )
    return table[name]


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of any Arrow type as text, as `cell` does; a number that is none (NaN) is missing, and bytes are UTF-8 where all are."""
    kind = column.type
    if isinstance(kind, pa.ExtensionType) or pa.types.is_dictionary(kind):
        return as_text(
            column.cast(
                kind.storage_type if isinstance(kind, pa.ExtensionType) else kind.value_type
            )
        )
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.chunked_array([pa.array(map(cell, column.to_pylist()), pa.string())])


def cell(value: Any) -> str | None:
    """A value as text: nested ones and truth values as JSON, bytes in hexadecimal digits."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return (
        json.dumps(value, ensure_ascii=False, default=str)
        if isinstance(value, (dict, list, bool))
        else str(value)
    )


def rejects(
    rows: pa.Table, step: str, rule: str | pa.ChunkedArray, detail: str | pa.ChunkedArray = ""
) -> pa.Table:
    """The same rows with the columns that say who dropped them and why. No step drops a row in any other way.

    A column of the data that has one of these names is called `data.<name>`."""
    about = {"step": step, "rule": rule, "detail": detail}
    rows = rows.rename_columns(
        [f"data.{name}" if name in about else name for name in rows.column_names]
    )
    for name, value in about.items():
        rows = rows.append_column(
            name,
            pa.array([value] * rows.num_rows, pa.string()) if isinstance(value, str) else value,
        )
    return rows


def write_rejects(path: Path, parts: list[pa.Table], like: pa.Table) -> dict[str, int]:
    """Write a step's rejects.parquet (also when empty, with the columns of `like`) and return the number of rows by rule."""
    empty = rejects(like.slice(0, 0), "", "")
    table = united([empty, *parts], empty)
    write_table(path, table)
    return dict(sorted(Counter(table["rule"].to_pylist()).items()))


def united(parts: Sequence[pa.Table], like: pa.Table) -> pa.Table:
    """All rows, with the types of `like`: a cell that was parsed on the way is text again, as in the rows that were dropped before."""
    known = {field.name: field.type for field in rejects(like.slice(0, 0), "", "").schema}
    same = [
        part.cast(
            pa.schema([(field.name, known.get(field.name, field.type)) for field in part.schema])
        )
        for part in parts
    ]
    return pa.concat_tables(same, promote_options="permissive")


def complete_parts(folder: Path, names: Sequence[str], like: pa.Table) -> None:
    """Leave exactly these files in a folder of rejects, or one without rows, so that it can always be read as one Parquet data set."""
    if not names:
        write_table(folder / "none.parquet", rejects(like.slice(0, 0), "", ""))
    remove_others(folder, names or ["none.parquet"])


def remove_others(folder: Path, names: Sequence[str]) -> None:
    """Also what a killed run left half-written."""
    for path in [*folder.glob("*.parquet"), *folder.glob(".*.tmp")]:
        if path.is_file() and path.name not in names:
            path.unlink()


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def of_repository(path: str) -> Path:
    """The path in this repository, which is the same for all its worktrees (`git worktree`): that in the one with the repository itself."""
    link = Path(".git")
    if (
        link.is_file()
        and (
            common := Path(link.read_text().removeprefix("gitdir:").strip()) / "commondir"
        ).is_file()
    ):
        return (common.parent / common.read_text().strip()).resolve().parent / path
    return Path(path)


def digest(value: Any) -> str:
    """The sha256 of a value's canonical JSON; a section of the recipe counts as what it holds."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, default=lambda section: section.model_dump()).encode()
    ).hexdigest()


def name_hash(name: str) -> bytes:
    """Eight bytes that stand for a row's id, blanks around it aside, where the id itself should not be kept."""
    return hashlib.sha256(name.strip().encode()).digest()[:8]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
