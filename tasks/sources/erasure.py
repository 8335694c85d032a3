"""Erasure: the rows whose ids data/<recipe>/erase.csv lists lose their content everywhere."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.sources.base import BrokenRow
from tasks.storage import files, hashing


def read_erased_ids(path: Path) -> set[str]:
    """Read the column `id` of a recipe's erase.csv; there is none if nothing is to be erased."""
    if not path.is_file():
        return set()
    rows = files.read_csv(path, ["id"], "name it in the first line")
    ids = {(row["id"] or "").strip() for row in rows}
    return ids - {""}


@dataclass(frozen=True)
class ErasedIds:
    """The ids of rows to erase, as an Arrow array of sorted texts."""

    ids: pa.Array

    @classmethod
    def read(cls, path: Path) -> "ErasedIds":
        """Read them from a recipe's erase.csv."""
        return cls(pa.array(sorted(read_erased_ids(path)), pa.string()))

    def compute_hash(self) -> str:
        """Return the hash that stands for all of them."""
        return hashing.hash_json(self.ids.to_pylist())

    def find(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return which cells are ids to erase, blanks around them aside."""
        return pc.is_in(pc.utf8_trim_whitespace(column), self.ids)

    def find_rows(self, table: pa.Table, id_columns: Sequence[str]) -> pa.ChunkedArray:
        """Return which rows have an id to erase, in any of these columns that the table has."""
        masks = [self.find(table[name]) for name in id_columns if name in table.column_names]
        return reduce(pc.or_, masks)

    def describe_broken_row(self, row: BrokenRow) -> str:
        """Return what is wrong with a broken row, and its content if no id to erase is in it."""
        is_erased = any(contains_word(row.content, name) for name in self.ids.to_pylist())
        return f"{row.problem}: {'(erased)' if is_erased else row.content}"


def contains_word(text: str, word: str) -> bool:
    """Return whether a word is in the text, and not only as a piece of a longer one."""
    if word not in text:
        return False
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
