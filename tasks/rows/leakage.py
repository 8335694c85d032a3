"""Leakage between splits: rows that are equal or similar to a row of another split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.rows import near_duplicates

SPLIT_PRECEDENCE = ("test", "val", "train")  # the first split that a cluster touches keeps it
SIMILARITY_THRESHOLD = 0.8
MAX_ROWS_FOR_NEAR_SEARCH = 200_000  # above this the search for near-duplicates is not repeated


@dataclass(frozen=True)
class LeakingRows:
    """The rows that would leak from one split into another."""

    reasons: dict[int, str]  # row → which row of which split it is like
    pairs: list[tuple[int, int]]  # all rows that are alike and are left
    n_clusters: int


def find_equal_pairs(keys: Iterable[bytes]) -> list[tuple[int, int]]:
    """Pair each repeated key's row with the first row that has the key, as (first, row)."""
    first_row: dict[bytes, int] = {}
    heads = [first_row.setdefault(key, row) for row, key in enumerate(keys)]
    return [(head, row) for row, head in enumerate(heads) if head != row]


def are_texts(contents: Sequence[Any]) -> bool:
    """Tell whether the rows are texts, some of them perhaps missing."""
    return all(isinstance(content, str | None) for content in contents)


def find_equal_contents(contents: Iterable[Any]) -> list[tuple[int, int]]:
    """Pair rows of equal content, letter case and white space ignored."""
    return find_equal_pairs(near_duplicates.normalize_content(content) for content in contents)


def find_near_text_pairs(contents: Sequence[Any]) -> list[tuple[int, int]]:
    """Pair near-duplicate texts; images and tables have none."""
    if not are_texts(contents):
        return []
    texts = [content or "" for content in contents]
    pairs = near_duplicates.find_near_pairs(texts, SIMILARITY_THRESHOLD)
    return [(pair.first, pair.second) for pair in pairs]


def find_leaking_rows(
    ids: Sequence[Any], contents: Sequence[Any], split_of_row: Sequence[str]
) -> LeakingRows:
    """Find the rows that are like a row of a split that takes precedence over theirs.

    A removed row may have hidden a pair from the search (LARGE_BUCKET), so the search is repeated
    until it finds nothing, as check_ready will.
    """
    reasons: dict[int, str] = {}
    n_clusters = 0
    while True:
        kept_rows = [row for row in range(len(contents)) if row not in reasons]
        pairs = find_similar_pairs(contents, kept_rows)
        clusters = near_duplicates.find_clusters(pairs)
        n_clusters = n_clusters or len(clusters)
        new_reasons: dict[int, str] = {}
        for members in clusters:
            new_reasons |= explain_losers(members, ids, split_of_row)
        reasons |= new_reasons
        if not new_reasons or len(kept_rows) > MAX_ROWS_FOR_NEAR_SEARCH:
            return LeakingRows(reasons, pairs, n_clusters)


def find_similar_pairs(contents: Sequence[Any], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Pair the rows of equal or nearly equal content among `rows`."""
    selected = [contents[row] for row in rows]
    pairs = [*find_equal_contents(selected), *find_near_text_pairs(selected)]
    return [(rows[i], rows[j]) for i, j in pairs]


def explain_losers(
    members: Sequence[int], ids: Sequence[Any], split_of_row: Sequence[str]
) -> dict[int, str]:
    """Name, for each row of a cluster that is not in the winning split, the row it is like."""
    winner = min((split_of_row[member] for member in members), key=SPLIT_PRECEDENCE.index)
    head = next(member for member in members if split_of_row[member] == winner)
    losers = [member for member in members if split_of_row[member] != winner]
    return dict.fromkeys(losers, f"like {ids[head]} in {winner}")
