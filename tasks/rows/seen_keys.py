"""Which rows were seen before, in data that comes in parts: 24 bytes per row of any size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from daft import Series
from numpy.typing import NDArray

SEEDS = (1, 2)


class RowKeys(NamedTuple):
    """Two independent 64-bit hashes of each row, equal for equal rows."""

    high: NDArray[np.uint64]  # [rows]
    low: NDArray[np.uint64]  # [rows]


class NumberedKeys(NamedTuple):
    """Keys with the numbers of their rows."""

    high: NDArray[np.uint64]  # [keys]
    low: NDArray[np.uint64]  # [keys]
    row: NDArray[np.int64]  # [keys]

    @classmethod
    def empty(cls) -> "NumberedKeys":
        """No keys."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int64))

    @classmethod
    def concat(cls, parts: Sequence["NumberedKeys"]) -> "NumberedKeys":
        """Join the keys of all parts, in their order."""
        return cls(
            np.concatenate([part.high for part in parts]),
            np.concatenate([part.low for part in parts]),
            np.concatenate([part.row for part in parts]),
        )

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "NumberedKeys":
        """Select keys by position, or by a mask."""
        return NumberedKeys(self.high[index], self.low[index], self.row[index])


def hash_rows(table: pa.Table, columns: Sequence[str]) -> RowKeys:
    """Hash each row's cells in these columns."""
    high = np.full(table.num_rows, SEEDS[0], np.uint64)
    low = np.full(table.num_rows, SEEDS[1], np.uint64)
    for name in columns:
        cells = Series.from_arrow(table[name].combine_chunks(), name)
        is_missing = table[name].is_null().to_numpy()
        high = hash_cells(cells, high, is_missing)
        low = hash_cells(cells, low, is_missing)
    return RowKeys(high, low)


def hash_cells(
    cells: Series, seeds: NDArray[np.uint64], is_missing: NDArray[np.bool_]
) -> NDArray[np.uint64]:
    """Hash each cell with the hash of the cells before it as seed, shape `[rows]`."""
    seeded = cells.hash(Series.from_numpy(seeds, "seeds"))
    hashes: NDArray[np.uint64] = seeded.to_arrow().to_numpy()
    # Daft hashes null as it hashes "".
    return np.where(is_missing, ~hashes, hashes)


class SeenKeys:
    """The distinct keys so far, each with the number of the first row that has it.

    Rows are numbered across all calls.
    """

    def __init__(self) -> None:
        self.size = 0  # rows so far
        self.pending: list[NumberedKeys] = []  # not yet among the sorted keys
        self.sorted_keys = NumberedKeys.empty()

    def add_pending(self, keys: RowKeys) -> None:
        """Add keys without sorting them: the next lookup sorts all pending keys at once."""
        n_rows = len(keys.high)
        rows = np.arange(self.size, self.size + n_rows)
        self.pending.append(NumberedKeys(keys.high, keys.low, rows))
        self.size += n_rows

    def contains(self, keys: RowKeys) -> NDArray[np.bool_]:
        """Tell for each key whether it was seen before; add nothing."""
        self.merge_pending()
        known = self.sorted_keys
        if not len(known.high):
            return np.zeros(len(keys.high), bool)
        position = np.minimum(np.searchsorted(known.high, keys.high), len(known.high) - 1)
        is_known: NDArray[np.bool_] = (known.high[position] == keys.high) & (
            known.low[position] == keys.low
        )
        return is_known

    def first_rows(self, keys: RowKeys) -> NDArray[np.int64]:
        """Add keys; return for each the first row that has it, its own if the key is new."""
        self.add_pending(keys)
        first_rows = self.merge_pending()
        return first_rows[len(first_rows) - len(keys.high) :]

    def merge_pending(self) -> NDArray[np.int64]:
        """Merge the pending keys into the sorted ones.

        Returns:
            The first row with an equal key for each pending key, shape `[pending keys]`.
        """
        if not self.pending:
            return np.empty(0, np.int64)
        n_known = len(self.sorted_keys.high)
        merged = NumberedKeys.concat([self.sorted_keys, *self.pending])
        self.pending = []
        # A stable sort is fast on the sorted beginning, and leaves earlier rows in front.
        order = np.argsort(merged.high, kind="stable")  # [keys]
        by_key = merged.take(order)
        is_first = np.ones(len(order), bool)  # [keys]
        is_new_high = by_key.high[1:] != by_key.high[:-1]
        is_new_low = by_key.low[1:] != by_key.low[:-1]
        is_first[1:] = is_new_high | is_new_low
        self.sorted_keys = by_key.take(is_first)
        # For each sorted key the first row of its run of equal keys, then back in pending order.
        first_row = self.sorted_keys.row[np.cumsum(is_first) - 1]  # [keys]
        is_pending = order >= n_known  # [keys]
        first_rows = np.empty(len(order) - n_known, np.int64)
        first_rows[order[is_pending] - n_known] = first_row[is_pending]
        return first_rows
