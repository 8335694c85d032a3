"""Personal data: masked, hashed or encrypted where it stands, or its rows dropped."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks import files, sealed
from tasks.cleaning.recognisers import HINTS, Finding, find
from tasks.cleaning.rule import Reasons, Rule
from tasks.mistakes import nearest
from tasks.step import Mistake

SHOWN = ("id", "before", "after", "detail")
Write = Callable[[str, str], str]  # from a kind and a value to what stands in its place


def masking() -> Write:
    return lambda kind, value: f"[{kind}]"


WRITERS: dict[str, Callable[[], Write]] = {"mask": masking, "drop": masking, "hash": sealed.hashing, "encrypt": sealed.encrypting}


def rewritten(text: str, found: list[Finding], write: Write) -> str:
    """The text with each finding replaced by what `write` makes of it."""
    done, at = [], 0
    for one in found:
        done += [text[at : one.start], write(one.kind, text[one.start : one.end])]
        at = one.end
    return "".join([*done, text[at:]])


def protected(table: pa.Table, action: str, kinds: list[str], columns: list[str] | None) -> pa.Table | tuple[pa.Table, Reasons]:
    """The table with the personal data in these columns replaced. `drop` masks, since rejects are read too, and gives each row with a finding a reason,
    which names the kinds and never a value."""
    write, wanted = WRITERS[action](), frozenset(kinds)
    counts: list[Counter[str]] = [Counter() for _ in range(table.num_rows)]
    for name in searched(table, columns):
        column = table[name].combine_chunks()
        mask = hinted(column, wanted)
        texts = []
        for row, text in zip(pc.indices_nonzero(mask).to_pylist(), column.filter(mask).to_pylist(), strict=True):
            found = find(text, wanted)
            counts[row].update(one.kind for one in found)
            texts.append(rewritten(text, found, write))
        column = pc.replace_with_mask(column, mask, pa.array(texts, column.type))
        table = table.set_column(table.column_names.index(name), name, column)
    if action != "drop":
        return table
    return table, [", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or None for found in counts]


def hinted(texts: pa.Array, kinds: frozenset[str]) -> pa.Array:
    """Which texts could hold something of these kinds: linear in their length, and far cheaper than finding it."""
    hint = "|".join(HINTS[kind] for kind in sorted(kinds)).replace(r"\d", r"\p{Nd}").replace(r"\D", r"\P{Nd}")  # RE2's \d is ASCII's
    return pc.fill_null(pc.match_substring_regex(texts, hint), False)


def searched(table: pa.Table, columns: list[str] | None) -> list[str]:
    """The columns that are named; else the text, and in a table all columns of text that have no other role."""
    names = table.column_names
    for name in columns or []:
        if name not in names or not pa.types.is_string(table[name].type):
            problem = "is not a column of text" if name in names else f"is not a column{nearest(name, names)}"
            raise Mistake(f"pii.columns: {name!r} {problem}; the data has {', '.join(names)}.")
    texts = [field.name for field in table.schema if pa.types.is_string(field.type) and field.name not in files.ROLES]
    return columns or (["text"] if "text" in names else texts)


def safe(examples: Iterable[dict[str, Any]], kinds: frozenset[str]) -> Iterator[dict[str, Any]]:
    """The examples that a report may show where these kinds are protected; what is recognised in them is hidden.

    An example is left out if `last`, its text as the following rules left it, holds something: before them, as in `a&#64;b.org`, it need not be recognised.
    """
    for example in examples:
        last = example.pop("last", None)
        if not kinds or not isinstance(last, str) or not find(last, kinds):
            yield {
                key: rewritten(value, find(value, kinds), hiding) if kinds and key in SHOWN and isinstance(value, str) else value
                for key, value in example.items()
            }


def hiding(kind: str, value: str) -> str:
    return "█████"


RULES = {"pii": Rule("columns", protected)}
