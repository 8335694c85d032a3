"""JSON lines: one object a line, and what is none set aside."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from tasks import files


def object_of(line: str) -> dict[str, Any]:
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


def objects(text: str, broken: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """The object of each line; a line that is none is set aside. Only line feeds end a line: others that Unicode knows may stand in a string."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield object_of(line)
            except ValueError as error:
                broken.append((line, f"line {number}: {error}"))


def table(rows: list[dict[str, Any]], names: Sequence[str]) -> pa.Table:
    """The objects' values of these names, all as text."""
    return pa.table(
        {name: pa.array([files.cell(row.get(name)) for row in rows], pa.string()) for name in names}
    )
