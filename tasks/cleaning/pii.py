"""Personal data: masked, hashed or encrypted where it stands, or its rows dropped."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning import pii_encryption, tables
from tasks.cleaning.pii_recognizers import HINT_PATTERNS, find_pii
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns

Replacement = Callable[[str, str], str]  # from a kind and a value to what stands in its place


def build_masker() -> Replacement:
    return lambda kind, value: f"[{kind}]"


REPLACEMENT_BUILDERS: dict[str, Callable[[], Replacement]] = {
    "mask": build_masker,
    "drop": build_masker,
    "hash": pii_encryption.build_hasher,
    "encrypt": pii_encryption.build_encrypter,
}


def replace_pii(text: str, kinds: frozenset[str], write: Replacement) -> tuple[str, list[str]]:
    """The text with each finding replaced by what `write` makes of it, and the kinds of them."""
    found = find_pii(text, kinds)
    for one in reversed(found):
        text = text[: one.start] + write(one.kind, text[one.start : one.end]) + text[one.end :]
    return text, [one.kind for one in found]


def protect_pii(
    table: pa.Table, modality: str, action: str, kinds: list[str], columns: list[str] | None
) -> pa.Table | tuple[pa.Table, list[str | None]]:
    """The table with the personal data in these columns replaced; in the text, or in a table all columns of text that have no other role, where none is named.

    `drop` masks, since rejects are read too, and gives each row with a finding a reason, which names the kinds and never a value.
    """
    write, wanted = REPLACEMENT_BUILDERS[action](), frozenset(kinds)
    hint = (
        "|".join(HINT_PATTERNS[kind] for kind in sorted(wanted))
        .replace(r"\d", r"\p{Nd}")
        .replace(r"\D", r"\P{Nd}")
    )  # RE2's \d is ASCII's
    counts: list[Counter[str]] = [Counter() for _ in range(table.num_rows)]
    named = columns or (["text"] if CONTENT_COLUMN[modality] == "text" else None)
    for name in tables.select_text_columns(table, "pii", named, table_columns.ROLE_COLUMNS):
        column = table[name].combine_chunks()
        mask = pc.fill_null(
            pc.match_substring_regex(column, hint), False
        )  # linear in a text's length, and far cheaper than finding
        done = [replace_pii(text, wanted, write) for text in column.filter(mask).to_pylist()]
        for row, (_, found) in zip(pc.indices_nonzero(mask).to_pylist(), done, strict=True):
            counts[row].update(found)
        column = pc.replace_with_mask(
            column, mask, pa.array([text for text, _ in done], column.type)
        )
        table = table.set_column(table.column_names.index(name), name, column)
    if action != "drop":
        return table
    return table, [
        ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or None
        for found in counts
    ]


def redact_examples(
    examples: list[dict[str, Any]], kinds: frozenset[str], most: int
) -> list[dict[str, Any]]:
    """The first examples that a report may show where these kinds are protected, and that are not alike; what is recognised in them is hidden.

    An example is left out if `last`, its text as the following rules left it, holds something: before them, as in `a&#64;b.org`, it need not be recognised.
    """
    shown: dict[Any, dict[str, Any]] = {}
    for example in examples:
        last = example.pop("last", None)
        if len(shown) < most and not (kinds and last and find_pii(last, kinds)):
            hidden = {
                key: replace_pii(value, kinds, lambda *_: "█████")[0] if kinds and value else value
                for key, value in example.items()
            }
            shown.setdefault(
                (hidden["before"], hidden["after"]) if "before" in hidden else hidden["id"], hidden
            )
    return list(shown.values())
