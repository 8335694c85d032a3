"""JSON lines: one object a line; every other line is set aside."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

import pyarrow as pa
import pyarrow.json
from pydantic import JsonValue

from tasks.core.errors import StageError
from tasks.recipe.ingest import TextFormat
from tasks.rows import table_columns
from tasks.sources.base import BrokenRow
from tasks.sources.formats.file_content import FileContent
from tasks.sources.formats.file_notes import FileNotes

JsonObject = dict[str, JsonValue]


def read_json_lines(file: FileContent, source: TextFormat, notes: FileNotes) -> pa.Table:
    """Read one object a line, each value as text, nested ones as JSON.

    Lines that are no object are noted as broken.

    Raises:
        StageError: The file is a JSON array, or has no line with an object.
    """
    text = file.read_text(source.encoding)
    table = read_text_objects(text)
    if table is not None:
        return table
    rows = list(parse_objects(text, notes.broken))
    if not rows:
        raise StageError(describe_no_object(file.name, text, notes.broken))
    return build_text_table(rows, list_names(rows))


def list_names(rows: Sequence[JsonObject]) -> list[str]:
    """Return the names in all objects, in the order of their appearance."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(row)
    return list(names)


def read_text_objects(text: str) -> pa.Table | None:
    """Let Arrow read the lines at once if all values are texts, as the first line suggests.

    Returns:
        None if they are not, or a line is no object.
    """
    first_line = re.search(r"\S.*", text)
    if first_line is None:
        return None
    first = next(parse_objects(first_line[0], []), {})
    is_text = all(value is None or isinstance(value, str) for value in first.values())
    if not first or not is_text:
        return None
    # Arrow left to infer types would turn texts that look like dates into dates, and crash if
    # objects are nested deeply.
    options = pyarrow.json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.string()) for name in first]),
        unexpected_field_behavior="error",
    )
    with contextlib.suppress(pa.ArrowInvalid):
        return pyarrow.json.read_json(pa.BufferReader(text.encode()), parse_options=options)
    return None


def describe_no_object(name: str, text: str, broken: list[BrokenRow]) -> str:
    """Describe a file without any object."""
    if text.lstrip().startswith("["):
        return (
            f"{name} is a JSON array, but one object a line is expected: write each object on a "
            "line of its own."
        )
    problem = f"; {broken[0].problem}" if broken else ""
    return f"{name} has no line with a JSON object{problem}: write one object a line."


def parse_objects(text: str, broken: list[BrokenRow]) -> Iterator[JsonObject]:
    """Yield the object of each line; other lines are appended to `broken`.

    Only line feeds end a line: other line ends that Unicode knows may be in a string.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield parse_object(line)
            except ValueError as error:
                broken.append(BrokenRow(line, f"line {number}: {error}"))


def parse_object(line: str) -> JsonObject:
    """Parse the JSON object of a line.

    Raises:
        ValueError: The line is not exactly one object, or holds NaN, which is not JSON, a name
            given twice, or half a character.
    """
    try:
        value = json.loads(line, object_pairs_hook=build_object, parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object is expected")
    return value


def build_object(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    """Return an object whose names are all different."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return value


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinity, which Python's parser would accept."""
    raise ValueError(f"{name} is not JSON")


def build_text_table(rows: Sequence[JsonObject], names: Sequence[str]) -> pa.Table:
    """Return the objects' values of these names, all as text."""
    columns = {}
    for name in names:
        cells = [table_columns.format_cell(row.get(name)) for row in rows]
        columns[name] = pa.array(cells, pa.string())
    return pa.table(columns)
