"""Table files: one reader per suffix, and the checks that hold for every table."""

import json
import re
from collections.abc import Callable
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather
import pyarrow.parquet

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.recipe.ingest import TextFormat
from tasks.sources.base import BrokenRow
from tasks.sources.formats import archives, delimited, encodings, file_content, json_lines
from tasks.sources.formats.file_content import FileContent
from tasks.sources.formats.file_notes import FileNotes

NUL_PROBLEM = "a NUL character, which is no text"


def read_table(file: FileContent, source: TextFormat, notes: FileNotes) -> pa.Table:
    """Read the rows of one file.

    Args:
        file: The file, or a member of an archive.
        source: How text is to be read.
        notes: What is noted on the way, such as lines that are no rows.

    Raises:
        StageError: The file is of another type, damaged, in another encoding, or its header
            does not name every column once.
    """
    if file.suffix not in READERS:
        raise StageError(describe_unknown_suffix(file))
    file_content.check_content(file)
    is_binary = file.suffix in file_content.BINARY_FORMATS
    if not is_binary:
        encoding = encodings.resolve_encoding(file, source.encoding)
        # Arrow prints a traceback if a row that it reports is not UTF-8.
        encodings.check_text(file, encoding)
        source = source.model_copy(update={"encoding": encoding})
    table = parse_table(file, source, notes)
    check_header(file, table.column_names)
    return table if is_binary else set_aside_nul_rows(table, notes.broken)


def parse_table(file: FileContent, source: TextFormat, notes: FileNotes) -> pa.Table:
    """Read the rows of a file of a known type, with a sentence for a damaged one."""
    try:
        table = READERS[file.suffix](file, source, notes)
        # A damaged file may hold texts that are not UTF-8 and fail only when they are used.
        table.validate(full=file.suffix in file_content.BINARY_FORMATS)
        _ = table.column_names
    except (pa.ArrowException, UnicodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise StageError(
            f"{file.name} cannot be read as {file.suffix[1:].upper()} "
            f"({errors.first_line(error)}): it may be cut off; copy it again."
        ) from None
    return table


def describe_unknown_suffix(file: FileContent) -> str:
    """Describe a file of a type that is not read."""
    return (
        f"{file.name}: files of type {file.suffix or '(none)'} are not read. Allowed: "
        f"{', '.join(READERS)}, the text formats also with .gz or .zst, and archives of them "
        f"({', '.join(archives.ARCHIVE_SUFFIXES)})."
    )


def check_header(file: FileContent, names: list[str]) -> None:
    """Refuse a column without a name, and a name that several columns have."""
    if "" in names:
        raise StageError(
            f"{file.name}: column {names.index('') + 1} has no name in the header: name it, or "
            "name all columns with ingest.names if there is no header."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise StageError(
            f"{file.name}: the header names {', '.join(repeated)} more than once: rename the "
            "columns."
        )


def set_aside_nul_rows(table: pa.Table, broken: list[BrokenRow]) -> pa.Table:
    """Remove rows with a NUL character, which is no text, and append them to `broken`."""
    suspects = [column for column in table.columns if has_nul_byte(column)]
    if not suspects:
        return table
    has_nul = reduce(pc.or_, map(find_nul_cells, suspects))
    rows = table.filter(has_nul).to_pylist()
    broken += [BrokenRow(json.dumps(row, ensure_ascii=False), NUL_PROBLEM) for row in rows]
    return table.filter(pc.invert(has_nul))


def find_nul_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which cells hold a NUL character."""
    return pc.fill_null(pc.match_substring(column, "\0"), fill_value=False)


def has_nul_byte(column: pa.ChunkedArray) -> bool:
    """Return whether the texts of a column hold a NUL byte, by one look at their buffers."""
    for chunk in column.chunks:
        text_bytes = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)
        if text_bytes.min(initial=1) == 0:
            return True
    return False


def read_text_lines(file: FileContent, source: TextFormat, _notes: FileNotes) -> pa.Table:
    """Read plain text: a row for each line that is not blank."""
    lines = re.split(r"\r\n|\n|\r", file.read_text(source.encoding))
    return pa.table({"text": pa.array([line for line in lines if line.strip()], pa.string())})


def read_parquet(file: FileContent, _source: TextFormat, _notes: FileNotes) -> pa.Table:
    """Read Parquet, which has its own types."""
    return pyarrow.parquet.ParquetFile(file.open_stored()).read()


def read_arrow(file: FileContent, _source: TextFormat, _notes: FileNotes) -> pa.Table:
    """Read an Arrow or Feather file, which has its own types."""
    return pyarrow.feather.read_table(file.open_stored())


READERS: dict[str, Callable[[FileContent, TextFormat, FileNotes], pa.Table]] = {
    ".csv": delimited.read_delimited,
    ".tsv": delimited.read_delimited,
    ".jsonl": json_lines.read_json_lines,
    ".txt": read_text_lines,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
