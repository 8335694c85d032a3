"""Local files: CSV, TSV, JSON lines, plain text, Parquet and Arrow; a path, glob or folder, or a list of them; text also as .gz or .zst."""

import glob
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.json

from tasks import files
from tasks.recipe import Files, Format
from tasks.sources import Partition
from tasks.step import Failure

COMPRESSION = {".gz": "gzip", ".zst": "zstd"}
SAMPLE = 1 << 20  # bytes from which an encoding is guessed
BOMB_BYTES, BOMB_RATIO = 4 << 30, 100  # real tables shrink 3 to 20 times
Broken = list[tuple[str, str]]


def listed(source: Files) -> list[Path]:
    """The files that the source names, sorted. Raises Failure for a path or pattern that matches none."""
    found: list[Path] = []
    for pattern in [source.path] if isinstance(source.path, str) else source.path:
        if Path(pattern).is_dir():
            matches = [path for path in Path(pattern).rglob("*") if path.is_file() and kind(path) in READERS and not path.name.startswith(".")]
        else:
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
        broken: Broken = []
        yield Partition(str(path), files.sha256(path), read(path, source, broken), broken)


def kind(path: Path) -> str:
    """The suffix that says how a file is read, without that of its compression."""
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSION else path).suffix.lower()


def read(path: Path, source: Format, broken: Broken) -> pa.Table:
    if kind(path) not in READERS:
        allowed = ", ".join(READERS)
        raise Failure(
            f"{path}: files of type {kind(path) or '(none)'} are not read. Allowed: {allowed}, the text formats also with {' or '.join(COMPRESSION)}."
        )
    if path.suffix.lower() in COMPRESSION:
        check_compression(path)
    encoding = source.encoding
    try:
        if encoding == "auto" and kind(path) not in BINARY:
            encoding = guessed(path)
        return READERS[kind(path)](path, source.model_copy(update={"encoding": encoding}), broken)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        unread = None if kind(path) in BINARY else undecodable(path, encoding)
        raise unread or Failure(f"{path} cannot be read as {kind(path)[1:].upper()}: {files.first_line(error)}.") from None


def opened(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression=COMPRESSION.get(path.suffix.lower()))


def content(path: Path) -> bytes:
    with opened(path) as stream:
        return bytes(stream.read())


def check_compression(path: Path) -> None:
    """Read a compressed file once through. Raises Failure where it is cut off, is something else, or is made to fill the disk."""
    size, limit = 0, max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)
    try:
        with opened(path) as stream:
            while chunk := stream.read(SAMPLE):
                size += len(chunk)
                if size > limit:
                    raise Failure(
                        f"{path} expands to more than {limit:,} bytes, {BOMB_RATIO} times its size: it is not read; unpack it by hand if it is genuine."
                    )
    except (OSError, EOFError) as error:
        raise Failure(f"{path} is cut off or not {COMPRESSION[path.suffix.lower()]} ({files.first_line(error)}): copy it again.") from None
    if not size:
        raise Failure(f"{path} holds an empty file: write the data there again.")


def guessed(path: Path) -> str:
    """The encoding that the file's beginning most looks like. UTF-8 where it is valid, which other encodings almost never are by chance."""
    import charset_normalizer

    with opened(path) as stream:
        data = bytes(stream.read(SAMPLE))
    try:
        data[: data.rfind(b"\n") + 1 or len(data)].decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        best = charset_normalizer.from_bytes(data).best()
    if best is None:
        raise Failure(f"{path}: its encoding cannot be told: set ingest.encoding, for example latin-1 or gb18030.")
    return best.encoding


def delimited(path: Path, source: Format, broken: Broken) -> pa.Table:
    """Every cell as text: types are decided by the recipe, not guessed. A row with too few or too many cells is set aside, not dropped."""

    def set_aside(row: "pyarrow.csv.InvalidRow") -> str:
        broken.append((row.text or "", f"line {row.number or '?'}: {row.actual_columns} cells where the header has {row.expected_columns}"))
        return "skip"

    delimiter = source.delimiter or ("\t" if kind(path) == ".tsv" else ",")
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=source.quote or False, newlines_in_values=True, invalid_row_handler=set_aside)
    # Arrow knows a row's number only when it reads with one thread; the numbers are worth it.
    options = pyarrow.csv.ReadOptions(encoding=source.encoding, use_threads=False, block_size=16 << 20, column_names=source.names)
    with opened(path) as stream:
        header = pyarrow.csv.open_csv(stream, read_options=options, parse_options=parse).schema.names
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise Failure(f"{path}: the header names {', '.join(doubled)} more than once: rename the columns.")
    broken.clear()
    convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in header}, strings_can_be_null=True, null_values=[""])
    with opened(path) as stream:
        return pyarrow.csv.read_csv(stream, read_options=options, parse_options=parse, convert_options=convert)


def json_lines(path: Path, source: Format, broken: Broken) -> pa.Table:
    """One object a line. Where Arrow cannot read the file as a whole, line by line, and what is no object is set aside."""
    text = content(path).decode(source.encoding)
    try:
        return pyarrow.json.read_json(io.BytesIO(text.encode()))
    except pa.ArrowInvalid:
        rows = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                value = json.loads(line) if line.strip() else None
            except ValueError as error:
                broken.append((line, f"line {number}: {error}"))
                continue
            if isinstance(value, dict):
                rows.append({name: cell if isinstance(cell, str) or cell is None else json.dumps(cell, ensure_ascii=False) for name, cell in value.items()})
            elif value is not None:
                broken.append((line, f"line {number}: {type(value).__name__} where an object is expected"))
        names = list(dict.fromkeys(name for row in rows for name in row))
        return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def lines(path: Path, source: Format, broken: Broken) -> pa.Table:
    """Plain text: a row for each line that is not blank."""
    rows = [line for line in content(path).decode(source.encoding).splitlines() if line.strip()]
    return pa.table({"text": pa.array(rows, pa.string())})


def parquet(path: Path, source: Format, broken: Broken) -> pa.Table:
    return files.read_table(path)


def arrow(path: Path, source: Format, broken: Broken) -> pa.Table:
    return pyarrow.feather.read_table(path)


BINARY: dict[str, Callable[[Path, Format, Broken], pa.Table]] = {".parquet": parquet, ".arrow": arrow, ".feather": arrow}
READERS = {".csv": delimited, ".tsv": delimited, ".jsonl": json_lines, ".txt": lines, **BINARY}


def undecodable(path: Path, encoding: str) -> Failure | None:
    """A sentence that names the line of the first byte that is not text in this encoding, if there is one."""
    data = content(path)
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Failure(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {encoding} text: save the file as {encoding}, "
            "or set ingest.encoding, for example latin-1, or auto to have it guessed."
        )
    return None
