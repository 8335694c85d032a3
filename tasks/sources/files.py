"""Local files: CSV, TSV, JSON lines, plain text, Parquet and Arrow; a path, glob or folder, or a list of them.

Text may be compressed (.gz, .zst); files may lie in an archive (.zip, .tar, .tar.gz, .tgz, .tar.zst), each member being a part of its own.
"""

import codecs
import csv
import functools
import glob
import hashlib
import json
import re
from collections.abc import Callable, Container, Iterator
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
from tasks.sources import Partition, archives, content
from tasks.sources.content import Content, shown
from tasks.sources.jsonlines import objects
from tasks.step import Failure

BLOCK = 16 << 20  # bytes; no row of a CSV file may be longer
DELIMITERS = ",;\t|"
Broken = list[tuple[str, str]]


def listed(source: Files) -> list[Path]:
    """The files that the source names, sorted. Raises Failure for a path or pattern that matches none."""
    found: list[Path] = []
    for pattern in [source.path] if isinstance(source.path, str) else source.path:
        if Path(pattern).is_dir():
            matches = [path for path in Path(pattern).rglob("*") if readable(Content(path.name, path)) and not path.name.startswith(".") and not path.is_dir()]
        else:
            matches = [Path(match) for match in glob.glob(pattern, recursive=True) if not Path(match).is_dir()]
        if not matches:
            raise Failure(f"ingest.path: {pattern} matches no file in {Path.cwd()}: put the file there or correct the path.")
        found += matches
    for path in found:
        if shown(path) != str(path):
            raise Failure(f"{shown(path)}: the name of this file is not UTF-8 text: rename it.")
        if not path.is_file():
            raise Failure(f"{shown(path)} is not a file{' but a link to one that is gone' if path.is_symlink() else ''}: put the data there.")
    return sorted(set(found))


def fingerprint(source: Files) -> dict[str, str]:
    return {name: version for path in listed(source) for name, version in identities(Content(str(path), path)).items()}


def partitions(source: Files, skip: Container[str] = ()) -> Iterator[Partition]:
    for path in listed(source):
        yield from parts(Content(str(path), path), source, skip)


def identities(file: Content) -> dict[str, str]:
    """The hash of the file, or of each member of the archive, under the names of their parts."""
    return {part.name: digest(part) for part in ([file] if not archives.is_archive(file.name) else archives.members(file, readable))}


def parts(file: Content, source: Format, skip: Container[str] = ()) -> Iterator[Partition]:
    """The file as one part, or each member of the archive."""
    if file.name in skip:
        return
    for part in [file] if not archives.is_archive(file.name) else archives.members(file, readable, skip):
        broken: Broken = []
        yield Partition(part.name, digest(part), read(part, source, broken), broken)


def digest(file: Content) -> str:
    return hashlib.sha256(file.at).hexdigest() if isinstance(file.at, bytes) else files.sha256(file.at)


def readable(file: Content) -> bool:
    return file.kind in READERS or archives.is_archive(file.name)


def read(file: Content, source: Format, broken: Broken) -> pa.Table:
    if file.kind not in READERS:
        allowed = ", ".join(READERS)
        raise Failure(
            f"{file.name}: files of type {file.kind or '(none)'} are not read. Allowed: {allowed}, the text formats also with .gz or .zst, "
            f"and archives of them ({', '.join(archives.SUFFIXES)})."
        )
    content.check(file)
    encoding = source.encoding if file.kind in content.BINARY else content.encoding(file, source.encoding)
    try:
        table = READERS[file.kind](file, source.model_copy(update={"encoding": encoding}), broken)
        table.validate(full=file.kind in content.BINARY)  # a damaged file may hold texts that are none, which fail where they are used
        check_names(file, table.column_names)
    except (pa.ArrowException, UnicodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        unread = None if file.kind in content.BINARY else content.undecodable(file, encoding)
        raise unread or Failure(
            f"{file.name} cannot be read as {file.kind[1:].upper()} ({files.first_line(error)}): it may be cut off; copy it again."
        ) from None
    return table if file.kind in content.BINARY else without_nul(table, broken)


def check_names(file: Content, names: list[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if "" in names:
        raise Failure(f"{file.name}: column {names.index('') + 1} has no name in the header: name it, or give all with ingest.names where there is no header.")
    if doubled:
        raise Failure(f"{file.name}: the header names {', '.join(doubled)} more than once: rename the columns.")


def without_nul(table: pa.Table, broken: Broken) -> pa.Table:
    """Rows with a NUL character, which is no text, are set aside."""
    suspects = [column for column in table.columns if any(not np.frombuffer(chunk.buffers()[2] or b"", np.uint8).min(initial=1) for chunk in column.chunks)]
    if not suspects:
        return table
    mask = functools.reduce(pc.or_, [pc.fill_null(pc.match_substring(column, "\0"), False) for column in suspects])
    broken += [(json.dumps(row, ensure_ascii=False), "a NUL character, which is no text") for row in table.filter(mask).to_pylist()]
    return table.filter(pc.invert(mask))


def delimited(file: Content, source: Format, broken: Broken) -> pa.Table:
    """Every cell as text: types are decided by the recipe, not guessed. A row with too few or too many cells is set aside, not dropped."""

    def set_aside(row: "pyarrow.csv.InvalidRow") -> str:
        broken.append((row.text or "", f"line {row.number or '?'}: {row.actual_columns} cells where the header has {row.expected_columns}"))
        return "skip"

    content.check_utf8(file, source.encoding)
    delimiter, header = layout(file, source)
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=source.quote or False, newlines_in_values=True, invalid_row_handler=set_aside)
    # Arrow knows a row's number only when it reads with one thread; the numbers are worth it.
    options = pyarrow.csv.ReadOptions(
        encoding=source.encoding, use_threads=False, block_size=BLOCK, column_names=source.names, autogenerate_column_names=not header and not source.names
    )
    with file.opened() as stream:
        names = pyarrow.csv.open_csv(stream, read_options=options, parse_options=parse).schema.names
    check_names(file, names)
    broken.clear()
    convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=True, null_values=[""])
    try:
        with file.opened() as stream:
            table = pyarrow.csv.read_csv(stream, read_options=options, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        if "straddling" in str(error):
            raise Failure(f"{file.name} has a row of more than {BLOCK >> 20} MB: shorten it, or close the quote that makes many rows one.") from None
        raise
    last = table[names[-1]][-1].as_py() if table.num_rows else None
    quote = source.quote
    open_end = any("\n" in line and line.count(quote) % 2 for line, _ in broken) if quote else False
    if open_end or (quote and last and "\n" in last and unclosed(file.read().decode(source.encoding), last, quote)):
        raise Failure(
            f"{file.name}: a quote is opened and not closed before the end of the file, so the rows after it would be one cell: close it or double it."
        )
    return table


def unclosed(text: str, last: str, quote: str) -> bool:
    """Whether the last cell, which has several lines, lacks its closing quote."""
    ending = text.rstrip("\r\n")
    return not ending.endswith(quote) or (last.endswith("\n") and not ending[:-1].endswith("\n"))


def layout(file: Content, source: Format) -> tuple[str, bool]:
    """The delimiter, and whether the first line is a header; both as given, or as the first lines suggest."""
    delimiter, header = source.delimiter or ("\t" if file.kind == ".tsv" else ","), source.header if source.header is not None else not source.names
    if "auto" not in (delimiter, header):
        return delimiter, bool(header)
    first = [line[:10_000] for line in content.sample(file).decode(source.encoding, "replace").removeprefix("\ufeff").splitlines()[:100]]
    if delimiter == "auto":
        delimiter = max(DELIMITERS, key=lambda mark: regularity(first, mark))  # the first of equals
    if header == "auto":
        cells = next(csv.reader(first, delimiter=delimiter), [])
        header = len(set(cells)) == len(cells) and not any(re.fullmatch(r"[-+.,:/\d\s]*", cell) for cell in cells)
    return delimiter, bool(header)


def regularity(lines: list[str], delimiter: str) -> tuple[float, int]:
    """The share of lines with the commonest number of cells, more than one, and that number."""
    counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    usual = max(sorted(set(counts)), key=counts.count, default=1)
    return (counts.count(usual) / len(counts), usual) if usual > 1 else (0.0, 1)


def json_lines(file: Content, source: Format, broken: Broken) -> pa.Table:
    """One object a line, each value as text, nested ones as JSON. Where all are texts, as the first line suggests, Arrow reads the file at once."""
    data = file.read().removeprefix(codecs.BOM_UTF8)
    text = data.decode(source.encoding).removeprefix("\ufeff")
    start = re.search(r"\S.*", text)
    first = next(objects(start[0], []), {}) if start else {}
    if first and all(value is None or isinstance(value, str) for value in first.values()):
        # Left to infer types, Arrow would turn texts that look like dates into dates, and crash where objects are nested deeply.
        schema = pa.schema([(name, pa.string()) for name in first])
        parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        try:
            return pyarrow.json.read_json(pa.BufferReader(data if source.encoding == "utf-8" else text.encode()), parse_options=parse)
        except pa.ArrowInvalid:
            pass
    rows = list(objects(text, broken))
    if not rows:
        if text.lstrip().startswith("["):
            raise Failure(f"{file.name} is a JSON array, where one object a line is expected: write each object on a line of its own.")
        raise Failure(f"{file.name} has no line with a JSON object{f'; {broken[0][1]}' if broken else ''}: write one object a line.")
    cells = [{name: cell if isinstance(cell, str) or cell is None else json.dumps(cell, ensure_ascii=False) for name, cell in row.items()} for row in rows]
    names = list(dict.fromkeys(name for row in cells for name in row))
    return pa.table({name: pa.array([row.get(name) for row in cells], pa.string()) for name in names})


def lines(file: Content, source: Format, broken: Broken) -> pa.Table:
    """Plain text: a row for each line that is not blank."""
    rows = [line for line in re.split(r"\r\n|\n|\r", file.read().decode(source.encoding).removeprefix("\ufeff")) if line.strip()]
    return pa.table({"text": pa.array(rows, pa.string())})


def parquet(file: Content, source: Format, broken: Broken) -> pa.Table:
    return pyarrow.parquet.ParquetFile(file.raw()).read()


def arrow(file: Content, source: Format, broken: Broken) -> pa.Table:
    return pyarrow.feather.read_table(file.raw())


READERS: dict[str, Callable[[Content, Format, Broken], pa.Table]] = {
    ".csv": delimited, ".tsv": delimited, ".jsonl": json_lines, ".txt": lines, ".parquet": parquet, ".arrow": arrow, ".feather": arrow,
}  # fmt: skip
