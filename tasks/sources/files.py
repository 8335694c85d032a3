"""Local files: CSV, TSV, JSON lines, plain text, Parquet and Arrow; a path, glob or folder, or a list of them.

Text may be compressed (.gz, .zst); files may lie in an archive (.zip, .tar, .tar.gz, .tgz, .tar.zst).
"""

import contextlib
import csv
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
import pyarrow.json
import pyarrow.parquet

from tasks import files
from tasks.recipe import Files, Format
from tasks.sources import Part, Rows, archives, content, jsonlines, on_disk
from tasks.sources.content import Content, shown
from tasks.step import Failure

BLOCK = 16 << 20  # bytes; no row of a CSV file may be longer
DELIMITERS = ",;\t|"
Broken = list[tuple[str, str]]


def listed(paths: str | list[str]) -> list[Path]:
    """The files that a source names, sorted. Raises Failure for a path or pattern that matches none."""
    found: set[Path] = set()
    for pattern in [paths] if isinstance(paths, str) else paths:
        if Path(pattern).is_dir():
            matches = {
                path
                for path in Path(pattern).rglob("*")
                if readable(Content(path.name, path)) and not path.name.startswith(".")
            }
        else:
            matches = {Path(match) for match in glob.glob(pattern, recursive=True)}
        matches = {path for path in matches if not path.is_dir()}
        if not matches:
            raise Failure(
                f"ingest.path: {pattern} matches no file in {Path.cwd()}: put the file there or correct the path."
            )
        found |= matches
    for path in sorted(found):
        if shown(str(path)) != str(path):
            raise Failure(
                f"{shown(str(path))}: the name of this file is not UTF-8 text: rename it."
            )
        if not path.is_file():
            raise Failure(
                f"{path} is not a file{' but a link to one that is gone' if path.is_symlink() else ''}: put the data there."
            )
    return sorted(found)


def parts(source: Files) -> Iterator[Part]:
    for path in listed(source.path):
        yield on_disk(
            str(path),
            partial(files.sha256, path),
            partial(tables, Content(str(path), path), source),
        )


def tables(file: Content, source: Format) -> Iterator[Rows]:
    """The rows of the file, or of each member of the archive."""
    for one in archives.members(file, readable) if archives.is_archive(file.name) else [file]:
        broken: Broken = []
        yield Rows(one.name, read(one, source, broken), broken)


def readable(file: Content) -> bool:
    return file.kind in READERS or archives.is_archive(file.name)


def read(file: Content, source: Format, broken: Broken) -> pa.Table:
    if file.kind not in READERS:
        allowed = f"{', '.join(READERS)}, the text formats also with .gz or .zst, and archives of them ({', '.join(archives.SUFFIXES)})"
        raise Failure(
            f"{file.name}: files of type {file.kind or '(none)'} are not read. Allowed: {allowed}."
        )
    content.check(file)
    binary = file.kind in content.BINARY
    if not binary:
        source = source.model_copy(update={"encoding": content.encoding(file, source.encoding)})
        content.check_text(
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
        raise Failure(
            f"{file.name} cannot be read as {file.kind[1:].upper()} ({files.first_line(error)}): it may be cut off; copy it again."
        ) from None
    if "" in names:
        raise Failure(
            f"{file.name}: column {names.index('') + 1} has no name in the header: name it, or give all with ingest.names where there is no header."
        )
    if len(set(names)) < len(names):
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise Failure(
            f"{file.name}: the header names {', '.join(doubled)} more than once: rename the columns."
        )
    return table if binary else without_nul(table, broken)


def without_nul(table: pa.Table, broken: Broken) -> pa.Table:
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


def delimited(file: Content, source: Format, broken: Broken) -> pa.Table:
    """Every cell as text: types are decided by the recipe, not guessed. A row with too few or too many cells is set aside, not dropped."""

    def set_aside(row: "pyarrow.csv.InvalidRow") -> str:
        broken.append(
            (
                row.text or "",
                f"line {row.number or '?'}: {row.actual_columns} cells where the header has {row.expected_columns}",
            )
        )
        return "skip"

    delimiter, header = layout(file, source)
    parse = pyarrow.csv.ParseOptions(
        delimiter=delimiter,
        quote_char=source.quote or False,
        newlines_in_values=True,
        invalid_row_handler=set_aside,
    )
    # Arrow knows a row's number only when it reads with one thread; the numbers are worth it.
    named = {
        "column_names": source.names,
        "autogenerate_column_names": not header and not source.names,
    }
    options = pyarrow.csv.ReadOptions(
        encoding=source.encoding, use_threads=False, block_size=BLOCK, **named
    )
    convert = pyarrow.csv.ConvertOptions(
        default_column_type=pa.string(), strings_can_be_null=True, null_values=[""]
    )
    try:
        with file.opened() as stream:
            table = pyarrow.csv.read_csv(
                stream, read_options=options, parse_options=parse, convert_options=convert
            )
    except pa.ArrowInvalid as error:
        if "straddling" in str(error):
            raise Failure(
                f"{file.name} has a row of more than {BLOCK >> 20} MB: shorten it, or close the quote that makes many rows one."
            ) from None
        raise
    if source.quote and left_open(file, source, table, broken):
        raise Failure(
            f"{file.name}: a quote is opened and not closed before the end of the file, so what follows would be one cell: close it or double it."
        )
    return table


def left_open(file: Content, source: Format, table: pa.Table, broken: Broken) -> bool:
    """Whether what was read last, if it has several lines, lacks its closing quote: as a row that is set aside, or as the last cell."""
    if any("\n" in line and line.count(source.quote) % 2 for line, _ in broken):
        return True
    last = (table[-1][-1].as_py() if table.num_rows else None) or ""
    return "\n" in last and not file.text(source.encoding).rstrip("\r\n").endswith(
        last.replace(source.quote, 2 * source.quote) + source.quote
    )


def layout(file: Content, source: Format) -> tuple[str, bool]:
    """The delimiter, and whether the first line is a header; both as given, or as the first lines suggest."""
    delimiter, header = (
        source.delimiter or ("\t" if file.kind == ".tsv" else ","),
        source.header if source.header is not None else not source.names,
    )
    first = [
        line[:10_000]
        for line in content.sample(file)
        .decode(source.encoding, "replace")
        .removeprefix("\ufeff")
        .splitlines()[:100]
    ]
    if delimiter == "auto":
        delimiter = max(DELIMITERS, key=lambda mark: regularity(first, mark))  # the first of equals
    if header == "auto":
        cells = next(csv.reader(first, delimiter=delimiter), [])
        header = len(set(cells)) == len(cells) and not any(
            re.fullmatch(r"[-+.,:/\d\s]*", cell) for cell in cells
        )
    return delimiter, bool(header)


def regularity(lines: list[str], delimiter: str) -> tuple[float, int]:
    """The share of lines with the commonest number of cells, more than one, and that number."""
    counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    usual = max(sorted(set(counts)), key=counts.count, default=1)
    return (counts.count(usual) / len(counts), usual) if usual > 1 else (0.0, 1)


def json_lines(file: Content, source: Format, broken: Broken) -> pa.Table:
    """One object a line, each value as text, nested ones as JSON. Where all are texts, as the first line suggests, Arrow reads the file at once."""
    text = file.text(source.encoding)
    start = re.search(r"\S.*", text)
    first = next(jsonlines.objects(start[0], []), {}) if start else {}
    if first and all(value is None or isinstance(value, str) for value in first.values()):
        # Left to infer types, Arrow would turn texts that look like dates into dates, and crash where objects are nested deeply.
        schema = pa.schema([(name, pa.string()) for name in first])
        parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        with contextlib.suppress(pa.ArrowInvalid):
            return pyarrow.json.read_json(pa.BufferReader(text.encode()), parse_options=parse)
    rows = list(jsonlines.objects(text, broken))
    if not rows:
        if text.lstrip().startswith("["):
            raise Failure(
                f"{file.name} is a JSON array, where one object a line is expected: write each object on a line of its own."
            )
        raise Failure(
            f"{file.name} has no line with a JSON object{f'; {broken[0][1]}' if broken else ''}: write one object a line."
        )
    return jsonlines.table(rows, list(dict.fromkeys(name for row in rows for name in row)))


def lines(file: Content, source: Format, broken: Broken) -> pa.Table:
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


READERS: dict[str, Callable[[Content, Format, Broken], pa.Table]] = {
    ".csv": delimited, ".tsv": delimited, ".jsonl": json_lines, ".txt": lines, ".parquet": lambda file, *_: pyarrow.parquet.ParquetFile(file.raw()).read(),
    ".arrow": lambda file, *_: pyarrow.feather.read_table(file.raw()), ".feather": lambda file, *_: pyarrow.feather.read_table(file.raw()),
}  # fmt: skip
