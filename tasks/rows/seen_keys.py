"""Which rows were seen before, over data that comes in parts: 24 bytes a row, whatever a row holds."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from daft import Series
from numpy.typing import NDArray

RowKeys = tuple[NDArray[np.uint64], NDArray[np.uint64]]
NumberedKeys = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]


def hash_rows(table: pa.Table, columns: Sequence[str]) -> RowKeys:
    """Two independent 64-bit hashes of each row's cells in these columns; equal for equal cells."""
    first, second = (np.full(table.num_rows, seed, np.uint64) for seed in (1, 2))
    for name in columns:
        cells = Series.from_arrow(table[name].combine_chunks(), name)
        missing = table[name].is_null().to_numpy()  # Daft hashes null as it hashes ""
        hashes = (
            cells.hash(Series.from_numpy(seeds, "seeds")).to_arrow().to_numpy()
            for seeds in (first, second)
        )
        first, second = (np.where(missing, ~found, found) for found in hashes)
    return first, second


class SeenKeys:
    """The keys so far, sorted, with the number of the row that first had each; numbers go on from one call to the next."""

    def __init__(self) -> None:
        self.size = 0
        self.noted: list[NumberedKeys] = []  # not yet among the known
        self.known: NumberedKeys = (
            np.empty(0, np.uint64),
            np.empty(0, np.uint64),
            np.empty(0, np.int64),
        )

    def note(self, found: RowKeys) -> None:
        """Add keys that are asked about later, if at all: many parts that were kept are then sorted at once."""
        self.noted.append((*found, np.arange(self.size, self.size + len(found[0]))))
        self.size += len(found[0])

    def contains(self, found: RowKeys) -> NDArray[np.bool_]:
        """Whether each key was seen before; nothing is added."""
        self.merge_pending()
        high, low, _ = self.known
        at = np.minimum(np.searchsorted(high, found[0]), len(high) - 1)
        return (
            (high[at] == found[0]) & (low[at] == found[1])
            if len(high)
            else np.zeros(len(found[0]), bool)
        )

    def first(self, found: RowKeys) -> NDArray[np.int64]:
        """For each row the number of the first row with an equal key, which is its own where the key is new."""
        self.note(found)
        firsts = self.merge_pending()
        return firsts[len(firsts) - len(found[0]) :]

    def merge_pending(self) -> NDArray[np.int64]:
        """Merge what was noted into what is known; returns the first row for each of the noted."""
        if not self.noted:
            return np.empty(0, np.int64)
        before = len(self.known[0])
        both = [np.concatenate(values) for values in zip(self.known, *self.noted, strict=True)]
        self.noted = []
        order = np.argsort(
            both[0], kind="stable"
        )  # which takes what is sorted already as it is, and leaves what came before in front
        high, low, row = (values[order] for values in both)
        head = np.ones(len(row), bool)
        head[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self.known = (high[head], low[head], row[head])
        new, firsts = order >= before, np.empty(len(order) - before, np.int64)
        firsts[order[new] - before] = row[head][np.cumsum(head) - 1][new]
        return firsts
