"""Delimited."""

import csv
import re

import pyarrow as pa
import pyarrow.csv

from tasks.core.errors import StageError
from tasks.recipe.ingest import TextFormat
from tasks.sources.base import BrokenLines
from tasks.sources.formats import file_content
from tasks.sources.formats.file_content import FileContent

BLOCK_BYTES = 16 << 20  # bytes; no row of a CSV file may be longer
DELIMITERS = ",;\t|"


def read_delimited(file: FileContent, source: TextFormat, broken: BrokenLines) -> pa.Table:
    """Every cell as text: types are decided by the recipe, not guessed. A row with too few or too many cells is set aside, not dropped."""

    def set_aside(row: "pyarrow.csv.InvalidRow") -> str:
        broken.append(
            (
                row.text or "",
                f"line {row.number or '?'}: {row.actual_columns} cells where the header has {row.expected_columns}",
            )
        )
        return "skip"

    delimiter, header = detect_layout(file, source)
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
        encoding=source.encoding, use_threads=False, block_size=BLOCK_BYTES, **named
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
            raise StageError(
                f"{file.name} has a row of more than {BLOCK_BYTES >> 20} MB: shorten it, or close the quote that makes many rows one."
            ) from None
        raise
    if source.quote and has_open_quote(file, source, table, broken):
        raise StageError(
            f"{file.name}: a quote is opened and not closed before the end of the file, so what follows would be one cell: close it or double it."
        )
    return table


def has_open_quote(
    file: FileContent, source: TextFormat, table: pa.Table, broken: BrokenLines
) -> bool:
    """Whether what was read last, if it has several lines, lacks its closing quote: as a row that is set aside, or as the last cell."""
    if any("\n" in line and line.count(source.quote) % 2 for line, _ in broken):
        return True
    last = (table[-1][-1].as_py() if table.num_rows else None) or ""
    return "\n" in last and not file.text(source.encoding).rstrip("\r\n").endswith(
        last.replace(source.quote, 2 * source.quote) + source.quote
    )


def detect_layout(file: FileContent, source: TextFormat) -> tuple[str, bool]:
    """The delimiter, and whether the first line is a header; both as given, or as the first lines suggest."""
    delimiter, header = (
        source.delimiter or ("\t" if file.kind == ".tsv" else ","),
        source.header if source.header is not None else not source.names,
    )
    first = [
        line[:10_000]
        for line in file_content.read_sample(file)
        .decode(source.encoding, "replace")
        .removeprefix("\ufeff")
        .splitlines()[:100]
    ]
    if delimiter == "auto":
        delimiter = max(
            DELIMITERS, key=lambda mark: measure_regularity(first, mark)
        )  # the first of equals
    if header == "auto":
        cells = next(csv.reader(first, delimiter=delimiter), [])
        header = len(set(cells)) == len(cells) and not any(
            re.fullmatch(r"[-+.,:/\d\s]*", cell) for cell in cells
        )
    return delimiter, bool(header)


def measure_regularity(lines: list[str], delimiter: str) -> tuple[float, int]:
    """The share of lines with the commonest number of cells, more than one, and that number."""
    counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
    usual = max(sorted(set(counts)), key=counts.count, default=1)
    return (counts.count(usual) / len(counts), usual) if usual > 1 else (0.0, 1)
