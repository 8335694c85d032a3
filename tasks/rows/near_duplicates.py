"""Near-duplicate texts: candidates by banded MinHash, each verified by its Jaccard similarity.

MinHash: Broder (1997), "On the resemblance and containment of documents". Banding: Leskovec,
Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from rensa import RMinHash

from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns

# Two texts of similarity s agree in one band with probability s**HASHES_PER_BAND.
HASHES_PER_BAND = 5
# The fraction of pairs exactly at the threshold that no band finds. Of more similar pairs, fewer.
MISS_RATE = 0.01
SHINGLE_LENGTH = 5  # characters
LARGE_BUCKET = 64  # in a larger bucket, texts are compared with its first text only
TEXTS_PER_BLOCK = 500  # their shingles fit into the processor's cache
SHINGLE_CACHE_SIZE = 4096  # texts
SHINGLE_SEED = 0x9E3779B97F4A7C15
SHINGLE_WEIGHTS = np.array(
    [pow(SHINGLE_SEED, 1 + position, 2**64) for position in range(SHINGLE_LENGTH)], np.uint64
)
HASH_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)


class NearPair(NamedTuple):
    """Two similar texts, `first` before `second`."""

    first: int
    second: int
    similarity: float


def read_contents(table: pa.Table, modality: str) -> list[Any]:
    """Read the content of each row: its text, the bytes of its image, or all cells of a table."""
    names = find_content_columns(table, modality)
    columns: list[list[Any]] = [table[name].to_pylist() for name in names]
    if CONTENT_COLUMN[modality] is None:
        return list(zip(*columns, strict=True))
    return columns[0]


def find_content_columns(table: pa.Table, modality: str) -> list[str]:
    """Name the columns that hold a row's content; this depends on the modality alone."""
    column = CONTENT_COLUMN[modality]
    if column is not None:
        return [column]
    return [name for name in table.column_names if name not in table_columns.ROLE_COLUMNS]


def normalize_text(text: str) -> str:
    """Ignore letter case and white space, as all comparisons do."""
    return " ".join(text.lower().split())


def normalize_content(content: Any) -> bytes:
    """Return bytes that are equal for rows of equal content."""
    if isinstance(content, bytes):
        return content
    return normalize_text(str(content)).encode()


def extract_shingles(text: str) -> frozenset[str]:
    """Return the set of runs of SHINGLE_LENGTH characters."""
    normalized = normalize_text(text)
    n_shingles = max(1, len(normalized) - SHINGLE_LENGTH + 1)
    return frozenset(normalized[start : start + SHINGLE_LENGTH] for start in range(n_shingles))


def count_bands(threshold: float) -> int:
    """Return how many bands find a pair at the threshold with probability 1 - MISS_RATE."""
    return math.ceil(math.log(MISS_RATE) / math.log(1 - threshold**HASHES_PER_BAND))


def hash_shingles(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Hash all shingles of all texts in one array.

    Returns:
        The hashes, shape `[shingles of all texts]`, and the offset of each text's first one,
        shape `[texts]`.
    """
    padded = [normalize_text(text).ljust(SHINGLE_LENGTH, "\0") for text in texts]
    ends = np.cumsum([len(text) for text in padded])  # [texts], in characters
    characters = np.frombuffer("".join(padded).encode("utf-32-le"), np.uint32)
    hashes = sliding_window_view(characters, SHINGLE_LENGTH) @ SHINGLE_WEIGHTS
    hashes = (hashes ^ hashes >> np.uint64(31)) * HASH_MULTIPLIER
    # A run that begins in one text and ends in the next is not a shingle.
    across_texts = (ends[:-1, None] - np.arange(1, SHINGLE_LENGTH)).ravel()
    n_removed = np.arange(1, len(ends) + 1) * (SHINGLE_LENGTH - 1)
    offsets = np.concatenate([[0], ends - n_removed]).astype(np.uint64)
    return np.delete(hashes, across_texts), offsets


def hash_bands(texts: Sequence[str], n_bands: int) -> NDArray[np.uint64]:
    """Hash each band of each text's MinHash signature, shape `[texts, bands]`."""
    hashes, offsets = hash_shingles(texts)
    signatures = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets, n_bands * HASHES_PER_BAND, 1
    ).to_rows()
    bands = np.asarray(signatures, np.uint64).reshape(len(texts), n_bands, HASHES_PER_BAND)
    return np.asarray(bands @ SHINGLE_WEIGHTS)


def hash_bands_in_threads(texts: Sequence[str], n_bands: int) -> NDArray[np.uint64]:
    """Do as `hash_bands`, block by block on all processors."""
    starts = range(0, len(texts), TEXTS_PER_BLOCK)
    blocks = [texts[start : start + TEXTS_PER_BLOCK] for start in starts]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = pool.map(lambda block: hash_bands(block, n_bands), blocks)
        return np.concatenate(list(hashed))


def group_by_bucket(keys: NDArray[np.uint64]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows, in order, that have the same key in a column, if they are two or more.

    Args:
        keys: Shape `[rows, columns]`; each column is grouped by itself.
    """
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order])) + 1
        edges = np.concatenate([[0], starts, [len(order)]])
        for bucket in np.flatnonzero(np.diff(edges) > 1):
            yield order[edges[bucket] : edges[bucket + 1]]


def generate_candidates(keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield pairs (i, j) with i < j that share a bucket in some band."""
    for bucket in group_by_bucket(keys):
        members = bucket.tolist()
        n_heads = len(members) if len(members) <= LARGE_BUCKET else 1
        for position, head in enumerate(members[:n_heads]):
            for member in members[position + 1 :]:
                yield head, member


def find_near_pairs(texts: Sequence[str], threshold: float) -> list[NearPair]:
    """Find the pairs of texts whose Jaccard similarity is at least `threshold`, in order.

    MinHash misses few of them, and the larger the similarity, the fewer (MISS_RATE).
    """
    if len(texts) < 2:
        return []
    keys = hash_bands_in_threads(texts, count_bands(threshold))

    @lru_cache(SHINGLE_CACHE_SIZE)
    def shingles_of(index: int) -> frozenset[str]:
        return extract_shingles(texts[index])

    pairs = []
    for i, j in sorted(set(generate_candidates(keys))):
        similarity = jaccard_similarity(shingles_of(i), shingles_of(j))
        if similarity >= threshold:
            pairs.append(NearPair(i, j, similarity))
    return pairs


def jaccard_similarity(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the size of the intersection divided by that of the union."""
    n_shared = len(first & second)
    return n_shared / (len(first) + len(second) - n_shared)


def find_clusters(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Find the connected components of the graph with these edges, each sorted."""
    from scipy.cluster.hierarchy import DisjointSet

    edges = list(pairs)
    components = DisjointSet(chain.from_iterable(edges))
    for i, j in edges:
        components.merge(i, j)
    return sorted(sorted(members) for members in components.subsets())
