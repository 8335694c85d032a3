"""JSON lines: one object a line, and what is none set aside."""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from tasks.core.errors import StageError
from tasks.recipe.ingest import TextFormat
from tasks.rows import table_columns
from tasks.sources.base import BrokenLines
from tasks.sources.formats.file_content import FileContent


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object on the line. Raises ValueError for all that is not exactly one: NaN, which is not JSON; a name given twice; half a character."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(found)
        if len(made) < len(found):
            raise ValueError("a name is given twice in one object")
        return made

    def constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(line, object_pairs_hook=pairs, parse_constant=constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object is expected")
    return value


def parse_objects(text: str, broken: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The object of each line; a line that is none is set aside. Only line feeds end a line: others that Unicode knows may stand in a string."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield parse_object(line)
            except ValueError as error:
                broken.append((line, f"line {number}: {error}"))


def build_text_table(rows: list[dict[str, Any]], names: Sequence[str]) -> pa.Table:
    """The objects' values of these names, all as text."""
    return pa.table(
        {
            name: pa.array([table_columns.format_cell(row.get(name)) for row in rows], pa.string())
            for name in names
        }
    )


def read_json_lines(file: FileContent, source: TextFormat, broken: BrokenLines) -> pa.Table:
    """One object a line, each value as text, nested ones as JSON. Where all are texts, as the first line suggests, Arrow reads the file at once."""
    text = file.text(source.encoding)
    start = re.search(r"\S.*", text)
    first = next(parse_objects(start[0], []), {}) if start else {}
    if first and all(value is None or isinstance(value, str) for value in first.values()):
        # Left to infer types, Arrow would turn texts that look like dates into dates, and crash where objects are nested deeply.
        schema = pa.schema([(name, pa.string()) for name in first])
        parse = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        with contextlib.suppress(pa.ArrowInvalid):
            return pyarrow.json.read_json(pa.BufferReader(text.encode()), parse_options=parse)
    rows = list(parse_objects(text, broken))
    if not rows:
        if text.lstrip().startswith("["):
            raise StageError(
                f"{file.name} is a JSON array, where one object a line is expected: write each object on a line of its own."
            )
        raise StageError(
            f"{file.name} has no line with a JSON object{f'; {broken[0][1]}' if broken else ''}: write one object a line."
        )
    return build_text_table(rows, list(dict.fromkeys(name for row in rows for name in row)))
