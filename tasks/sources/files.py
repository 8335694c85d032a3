"""Local files: CSV, TSV, JSON lines, Parquet."""

import glob
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from tasks import files
from tasks.recipe import Files
from tasks.sources import Partition
from tasks.step import Failure


def listed(source: Files) -> list[Path]:
    """The files that the source names, sorted. Raises Failure for a path or pattern that matches none."""
    found: list[Path] = []
    for pattern in [source.path] if isinstance(source.path, str) else source.path:
        matches = [Path(match) for match in glob.glob(pattern, recursive=True) if Path(match).is_file()]
        if not matches:
            raise Failure(f"ingest.path: {pattern} matches no file in {Path.cwd()}: put the file there or correct the path.")
        found += matches
    return sorted(set(found))


def fingerprint(source: Files) -> dict[str, str]:
    return {str(path): files.sha256(path) for path in listed(source)}


def partitions(source: Files) -> Iterator[Partition]:
    for path in listed(source):
        if path.stat().st_size == 0:
            raise Failure(f"{path} is empty (0 bytes): write the data there again.")
        broken: list[tuple[str, str]] = []
        yield Partition(str(path), files.sha256(path), read(path, source.encoding, broken), broken)


def read(path: Path, encoding: str, broken: list[tuple[str, str]]) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return files.read_table(path)
    if suffix not in READERS:
        raise Failure(f"{path}: files of type {suffix or '(none)'} are not read. Allowed: .csv, .tsv, .jsonl, .parquet.")
    try:
        return READERS[suffix](path, encoding, broken)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise undecodable(path, encoding) or Failure(f"{path} cannot be read as {suffix[1:].upper()}: {files.first_line(error)}.") from None


def delimited(path: Path, encoding: str, broken: list[tuple[str, str]]) -> pa.Table:
    """Every cell as text: types are decided by the recipe, not guessed. A row with too few or too many cells is set aside, not dropped."""

    def set_aside(row: "pyarrow.csv.InvalidRow") -> str:
        broken.append((row.text or "", f"line {row.number or '?'}: {row.actual_columns} cells where the header has {row.expected_columns}"))
        return "skip"

    parse = pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",", newlines_in_values=True, invalid_row_handler=set_aside)
    # Arrow knows a row's number only when it reads with one thread; the numbers are worth it.
    options = pyarrow.csv.ReadOptions(encoding=encoding, use_threads=False, block_size=16 << 20)
    header = pyarrow.csv.open_csv(path, read_options=options, parse_options=parse).schema.names
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise Failure(f"{path}: the header names {', '.join(doubled)} more than once: rename the columns.")
    broken.clear()
    convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""])
    return pyarrow.csv.read_csv(path, read_options=options, parse_options=parse, convert_options=convert)


def json_lines(path: Path, encoding: str, broken: list[tuple[str, str]]) -> pa.Table:
    path.read_bytes().decode(encoding)
    return pyarrow.json.read_json(path)


READERS = {".csv": delimited, ".tsv": delimited, ".jsonl": json_lines}


def undecodable(path: Path, encoding: str) -> Failure | None:
    """A sentence that names the line of the first byte that is not text in this encoding, if there is one."""
    data = path.read_bytes()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Failure(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding} text: save the file as {encoding}, or set ingest.encoding, for example latin-1."
        )
    return None
