"""Local files: CSV, TSV, JSON lines, plain text, Parquet and Arrow; a path, glob or folder, or a list of them.

Text may be compressed (.gz, .zst); files may lie in an archive (.zip, .tar, .tar.gz, .tgz, .tar.zst).
"""

import glob
import json
import re
from collections.abc import Callable, Iterator
from functools import partial, reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.recipe.ingest import FilesSource, TextFormat
from tasks.sources.base import BrokenLines, RowBatch, SourcePartition, build_local_partition
from tasks.sources.formats import archives, delimited, file_content, json_lines
from tasks.sources.formats.file_content import FileContent, format_file_name
from tasks.storage import hashing


def list_files(paths: str | list[str]) -> list[Path]:
    """The files that a source names, sorted. Raises Failure for a path or pattern that matches none."""
    found: set[Path] = set()
    for pattern in [paths] if isinstance(paths, str) else paths:
        if Path(pattern).is_dir():
            matches = {
                path
                for path in Path(pattern).rglob("*")
                if is_readable(FileContent(path.name, path)) and not path.name.startswith(".")
            }
        else:
            matches = {Path(match) for match in glob.glob(pattern, recursive=True)}
        matches = {path for path in matches if not path.is_dir()}
        if not matches:
            raise StageError(
                f"ingest.path: {pattern} matches no file in {Path.cwd()}: put the file there or correct the path."
            )
        found |= matches
    for path in sorted(found):
        if format_file_name(str(path)) != str(path):
            raise StageError(
                f"{format_file_name(str(path))}: the name of this file is not UTF-8 text: rename it."
            )
        if not path.is_file():
            raise StageError(
                f"{path} is not a file{' but a link to one that is gone' if path.is_symlink() else ''}: put the data there."
            )
    return sorted(found)


def iter_partitions(source: FilesSource) -> Iterator[SourcePartition]:
    for path in list_files(source.path):
        yield build_local_partition(
            str(path),
            partial(hashing.sha256, path),
            partial(read_batches, FileContent(str(path), path), source),
        )


def read_batches(file: FileContent, source: TextFormat) -> Iterator[RowBatch]:
    """The rows of the file, or of each member of the archive."""
    for one in (
        archives.iter_members(file, is_readable) if archives.is_archive(file.name) else [file]
    ):
        broken: BrokenLines = []
        yield RowBatch(one.name, read_file(one, source, broken), broken)


def is_readable(file: FileContent) -> bool:
    return file.kind in READERS or archives.is_archive(file.name)


def read_file(file: FileContent, source: TextFormat, broken: BrokenLines) -> pa.Table:
    if file.kind not in READERS:
        allowed = f"{', '.join(READERS)}, the text formats also with .gz or .zst, and archives of them ({', '.join(archives.ARCHIVE_SUFFIXES)})"
        raise StageError(
            f"{file.name}: files of type {file.kind or '(none)'} are not read. Allowed: {allowed}."
        )
    file_content.check_content(file)
    binary = file.kind in file_content.BINARY_FORMATS
    if not binary:
        source = source.model_copy(
            update={"encoding": file_content.resolve_encoding(file, source.encoding)}
        )
        file_content.check_text(
            file, source.encoding
        )  # Arrow prints a traceback where a row that it reports is no UTF-8
    try:
        table = READERS[file.kind](file, source, broken)
        table.validate(
            full=binary
        )  # a damaged file may hold texts that are none, which fail where they are used
        names = table.column_names
    except (pa.ArrowException, UnicodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise StageError(
            f"{file.name} cannot be read as {file.kind[1:].upper()} ({errors.first_line(error)}): it may be cut off; copy it again."
        ) from None
    if "" in names:
        raise StageError(
            f"{file.name}: column {names.index('') + 1} has no name in the header: name it, or give all with ingest.names where there is no header."
        )
    if len(set(names)) < len(names):
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise StageError(
            f"{file.name}: the header names {', '.join(doubled)} more than once: rename the columns."
        )
    return table if binary else set_aside_nul_rows(table, broken)


def set_aside_nul_rows(table: pa.Table, broken: BrokenLines) -> pa.Table:
    """Rows with a NUL character, which is no text, are set aside."""
    suspects = [
        column
        for column in table.columns
        if any(
            not np.frombuffer(chunk.buffers()[2] or b"", np.uint8).min(initial=1)
            for chunk in column.chunks
        )
    ]
    if not suspects:
        return table
    mask = reduce(
        pc.or_, [pc.fill_null(pc.match_substring(column, "\0"), False) for column in suspects]
    )
    broken += [
        (json.dumps(row, ensure_ascii=False), "a NUL character, which is no text")
        for row in table.filter(mask).to_pylist()
    ]
    return table.filter(pc.invert(mask))


def read_text_lines(file: FileContent, source: TextFormat, broken: BrokenLines) -> pa.Table:
    """Plain text: a row for each line that is not blank."""
    return pa.table(
        {
            "text": pa.array(
                [
                    line
                    for line in re.split(r"\r\n|\n|\r", file.text(source.encoding))
                    if line.strip()
                ],
                pa.string(),
            )
        }
    )


READERS: dict[str, Callable[[FileContent, TextFormat, BrokenLines], pa.Table]] = {
    ".csv": delimited.read_delimited, ".tsv": delimited.read_delimited, ".jsonl": json_lines.read_json_lines, ".txt": read_text_lines, ".parquet": lambda file, *_: pyarrow.parquet.ParquetFile(file.raw()).read(),
    ".arrow": lambda file, *_: pyarrow.feather.read_table(file.raw()), ".feather": lambda file, *_: pyarrow.feather.read_table(file.raw()),
}  # fmt: skip
