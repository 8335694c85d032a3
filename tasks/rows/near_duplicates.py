"""Near-duplicate texts: MinHash candidates (Broder 1997), banded (Leskovec et al.), each verified by its exact Jaccard similarity."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from rensa import RMinHash

from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns

HASHES_PER_BAND = (
    5  # hashes in a band: texts of similarity s agree in a band with probability s**ROWS
)
MISS_RATE = (
    0.01  # the share of pairs right at the threshold that no band finds; of those above it fewer
)
SHINGLE_LENGTH = 5  # characters
LARGE_BUCKET = 64  # texts in one bucket past which each is compared with the bucket's first only
TEXTS_PER_BLOCK = 500  # texts whose shingles fit the processor's cache
SHINGLE_WEIGHTS = np.array(
    [pow(0x9E3779B97F4A7C15, 1 + position, 2**64) for position in range(SHINGLE_LENGTH)], np.uint64
)
HASH_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)


def read_contents(table: pa.Table, modality: str) -> list[Any]:
    """What a row is, apart from its name and label: its text, the bytes of its image, or in a table all its cells."""
    columns = [table[name].to_pylist() for name in find_content_columns(table, modality)]
    return list(zip(*columns, strict=True)) if CONTENT_COLUMN[modality] is None else columns[0]


def find_content_columns(table: pa.Table, modality: str) -> list[str]:
    """The columns that hold what a row is; the modality says which, whatever they are called."""
    column = CONTENT_COLUMN[modality]
    return (
        [column]
        if column
        else [name for name in table.column_names if name not in table_columns.ROLE_COLUMNS]
    )


def normalize_text(text: str) -> str:
    """The text as it is compared: letter case and white space ignored."""
    return " ".join(text.lower().split())


def extract_shingles(text: str) -> frozenset[str]:
    """The set of the text's runs of five characters."""
    same = normalize_text(text)
    return frozenset(
        same[start : start + SHINGLE_LENGTH]
        for start in range(max(1, len(same) - SHINGLE_LENGTH + 1))
    )


def count_bands(threshold: float) -> int:
    """So many that a pair right at the threshold agrees in one with probability 1 - MISSED."""
    return math.ceil(math.log(MISS_RATE) / math.log(1 - threshold**HASHES_PER_BAND))


def hash_bands(texts: Sequence[str], bands: int) -> NDArray[np.uint64]:
    """For each text and band a hash of the band's minima, shape (texts, bands). The shingles are hashed as numbers, all in one array."""
    same = [normalize_text(text).ljust(SHINGLE_LENGTH, "\0") for text in texts]
    ends = np.cumsum([len(text) for text in same])
    hashed = (
        sliding_window_view(
            np.frombuffer("".join(same).encode("utf-32-le"), np.uint32), SHINGLE_LENGTH
        )
        @ SHINGLE_WEIGHTS
    )
    hashed = (hashed ^ hashed >> np.uint64(31)) * HASH_MULTIPLIER
    within = np.delete(
        hashed, (ends[:-1, None] - np.arange(1, SHINGLE_LENGTH)).ravel()
    )  # without runs that begin in one text and end in the next
    starts = np.concatenate(
        [[0], ends - np.arange(1, len(ends) + 1) * (SHINGLE_LENGTH - 1)]
    ).astype(np.uint64)
    minima = RMinHash.digest_matrix_from_flat_token_hashes(
        within, starts, bands * HASHES_PER_BAND, 1
    ).to_rows()
    return np.asarray(
        np.asarray(minima, np.uint64).reshape(len(texts), bands, HASHES_PER_BAND) @ SHINGLE_WEIGHTS
    )


def group_by_bucket(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.intp]]:
    """The rows, in order, that have the same key in a column, two or more."""
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        edges = np.concatenate([[0], np.flatnonzero(np.diff(column[order])) + 1, [len(order)]])
        yield from (order[edges[at] : edges[at + 1]] for at in np.flatnonzero(np.diff(edges) > 1))


def generate_candidates(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j) with i < j that share a bucket in some band."""
    for members in group_by_bucket(keys):
        heads = members if len(members) <= LARGE_BUCKET else members[:1]
        yield from (
            (i, j)
            for position, i in enumerate(heads.tolist())
            for j in members[position + 1 :].tolist()
        )


def find_near_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """All pairs (i, j, similarity) with i < j whose shingles have a Jaccard similarity of at least `threshold`, but for the few that MinHash misses."""
    if len(texts) < 2:
        return []
    bands = count_bands(threshold)
    blocks = [
        texts[start : start + TEXTS_PER_BLOCK] for start in range(0, len(texts), TEXTS_PER_BLOCK)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        keys = np.concatenate(list(pool.map(lambda block: hash_bands(block, bands), blocks)))
    known = lru_cache(4096)(lambda index: extract_shingles(texts[index]))
    compared = (
        (i, j, jaccard_similarity(known(i), known(j)))
        for i, j in sorted(set(generate_candidates(keys)))
    )
    return [(i, j, similarity) for i, j, similarity in compared if similarity >= threshold]


def jaccard_similarity(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def find_clusters(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected components of what these pairs join, each sorted."""
    from scipy.cluster.hierarchy import DisjointSet

    joined = list(pairs)
    found = DisjointSet(node for pair in joined for node in pair)
    for i, j in joined:
        found.merge(i, j)
    return sorted(sorted(members) for members in found.subsets())


def content_key(value: Any) -> bytes:
    """A row's content with letter case and white space ignored."""
    return value if isinstance(value, bytes) else normalize_text(str(value)).encode()
