"""Delimited text: CSV and TSV, with the delimiter and header as given or as guessed."""

import csv
import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv

from tasks.core.errors import StageError
from tasks.recipe.ingest import TextFormat
from tasks.sources.base import BrokenRow
from tasks.sources.formats import encodings
from tasks.sources.formats.file_content import FileContent
from tasks.sources.formats.file_notes import FileNotes

BLOCK_BYTES = 16 << 20  # no row of a CSV file may be longer
DELIMITERS = ",;\t|"  # those that are guessed
SAMPLE_LINES = 100
SAMPLE_LINE_CHARACTERS = 10_000


class Layout(NamedTuple):
    """How the lines of a file are divided."""

    delimiter: str
    has_header: bool


def read_delimited(file: FileContent, source: TextFormat, notes: FileNotes) -> pa.Table:
    """Read every cell as text: the recipe decides types, and none is guessed.

    A row with too few or too many cells is noted as broken.

    Raises:
        StageError: A row is too long, or a quote is opened and not closed.
    """
    layout = detect_layout(file, source)
    try:
        with file.open_unpacked() as stream:
            table = pyarrow.csv.read_csv(
                stream,
                read_options=build_read_options(source, layout),
                parse_options=build_parse_options(source, layout, notes.broken),
                convert_options=pyarrow.csv.ConvertOptions(
                    default_column_type=pa.string(), strings_can_be_null=True, null_values=[""]
                ),
            )
    except pa.ArrowInvalid as error:
        if "straddling" in str(error):
            raise StageError(
                f"{file.name} has a row of more than {BLOCK_BYTES >> 20} MB: shorten it, or close "
                "the quote that makes many rows one."
            ) from None
        raise
    if source.quote and has_open_quote(file, source, table, notes.broken):
        raise StageError(
            f"{file.name}: a quote is opened and not closed before the end of the file, so the "
            "rest would be one cell: close it or double it."
        )
    return table


def build_read_options(source: TextFormat, layout: Layout) -> pyarrow.csv.ReadOptions:
    """Return how Arrow reads the file: with one thread, since only then it knows line numbers."""
    return pyarrow.csv.ReadOptions(
        encoding=source.encoding,
        use_threads=False,
        block_size=BLOCK_BYTES,
        column_names=source.names,
        autogenerate_column_names=not layout.has_header and not source.names,
    )


def build_parse_options(
    source: TextFormat, layout: Layout, broken: list[BrokenRow]
) -> pyarrow.csv.ParseOptions:
    """Return how Arrow divides the lines, with a handler for rows that do not fit the header."""

    def set_aside(row: "pyarrow.csv.InvalidRow") -> str:
        problem = (
            f"line {row.number or '?'}: {row.actual_columns} cells where the header has "
            f"{row.expected_columns}"
        )
        broken.append(BrokenRow(row.text or "", problem))
        return "skip"

    return pyarrow.csv.ParseOptions(
        delimiter=layout.delimiter,
        quote_char=source.quote or False,
        newlines_in_values=True,
        invalid_row_handler=set_aside,
    )


def has_open_quote(
    file: FileContent, source: TextFormat, table: pa.Table, broken: list[BrokenRow]
) -> bool:
    """Return whether the row that was read last lacks its closing quote.

    Such a row has several lines. It is broken, or its last cell is the last of the table.
    """
    quote = source.quote
    for row in broken:
        if "\n" in row.content and row.content.count(quote) % 2:
            return True
    last_cell = get_last_cell(table)
    if "\n" not in last_cell:
        return False
    quoted_end = last_cell.replace(quote, 2 * quote) + quote
    return not file.read_text(source.encoding).rstrip("\r\n").endswith(quoted_end)


def get_last_cell(table: pa.Table) -> str:
    """Return the last cell of the last row; a missing one as an empty text."""
    if not table.num_rows:
        return ""
    return table[-1][-1].as_py() or ""


def detect_layout(file: FileContent, source: TextFormat) -> Layout:
    """Return the delimiter, and whether the first line is a header, as given or guessed."""
    delimiter = source.delimiter or ("\t" if file.suffix == ".tsv" else ",")
    lines = read_first_lines(file, source.encoding)
    if delimiter == "auto":
        delimiter = guess_delimiter(lines)
    if source.header == "auto":
        return Layout(delimiter, looks_like_header(lines, delimiter))
    if source.header is None:
        return Layout(delimiter, not source.names)
    return Layout(delimiter, source.header)


def read_first_lines(file: FileContent, encoding: str) -> list[str]:
    """Read the beginnings of the first lines."""
    text = encodings.read_sample(file).decode(encoding, "replace").removeprefix("\ufeff")
    return [line[:SAMPLE_LINE_CHARACTERS] for line in text.splitlines()[:SAMPLE_LINES]]


def guess_delimiter(lines: list[str]) -> str:
    """Return the delimiter that divides the lines most regularly; of equals the first."""
    return max(DELIMITERS, key=lambda delimiter: measure_regularity(lines, delimiter))


def measure_regularity(lines: list[str], delimiter: str) -> tuple[float, int]:
    """Return the fraction of lines with the commonest number of cells, and that number.

    A number of one cell does not count.
    """
    counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    commonest = max(sorted(set(counts)), key=counts.count, default=1)
    if commonest == 1:
        return 0.0, 1
    return counts.count(commonest) / len(counts), commonest


def looks_like_header(lines: list[str], delimiter: str) -> bool:
    """Return whether the first line has no number and no cell twice."""
    cells = next(csv.reader(lines, delimiter=delimiter), [])
    has_number = any(re.fullmatch(r"[-+.,:/\d\s]*", cell) for cell in cells)
    return len(set(cells)) == len(cells) and not has_number
