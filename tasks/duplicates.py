"""Near-duplicate texts: MinHash candidates (Broder 1997), banded (Leskovec et al.), each verified by its exact Jaccard similarity."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from rensa import RMinHash

from tasks import files

BANDS, ROWS = 25, 5  # finds a pair of similarity 0.8 with probability 0.9999, one of 0.7 with 0.99
SHINGLE = 5  # characters
MANY = 64  # rows in one bucket past which each is compared with the bucket's first only


def contents(table: pa.Table) -> list[Any]:
    """What a row is, apart from its name and label: its text, the bytes of its image, or all its cells."""
    columns = [table[name].to_pylist() for name in content_columns(table)]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def content_columns(table: pa.Table) -> list[str]:
    return [name for name in ("text", "image") if name in table.column_names] or [name for name in table.column_names if name not in files.ROLES]


def shingles(text: str) -> frozenset[str]:
    """The set of the text's runs of five characters, letter case and white space ignored."""
    plain = " ".join(text.lower().split())
    return frozenset(plain[start : start + SHINGLE] for start in range(max(1, len(plain) - SHINGLE + 1)))


def near_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """All pairs (i, j, similarity) with i < j whose shingles have a Jaccard similarity of at least `threshold`."""
    if len(texts) < 2:
        return []
    sets = [shingles(text) for text in texts]
    digests = np.asarray(RMinHash.digests_from_token_sets([list(found) for found in sets], BANDS * ROWS, 1), dtype=np.uint32)
    candidates: set[tuple[int, int]] = set()
    for band in range(BANDS):
        keys = np.ascontiguousarray(digests[:, band * ROWS : (band + 1) * ROWS]).view(np.dtype((np.void, 4 * ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
        for bucket in np.split(order, starts[1:]):
            if len(bucket) > 1:
                members = sorted(bucket.tolist())
                heads = members if len(members) <= MANY else members[:1]
                candidates.update((i, j) for position, i in enumerate(heads) for j in members[position + 1 :])
    found = []
    for i, j in sorted(candidates):
        shared = len(sets[i] & sets[j])
        similarity = shared / (len(sets[i]) + len(sets[j]) - shared)
        if similarity >= threshold:
            found.append((i, j, similarity))
    return found


def clusters(size: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The connected components with two or more members, each sorted."""
    parent = list(range(size))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for i, j in pairs:
        parent[max(root(i), root(j))] = min(root(i), root(j))
    groups: dict[int, list[int]] = defaultdict(list)
    for node in range(size):
        groups[root(node)].append(node)
    return [members for members in groups.values() if len(members) > 1]
