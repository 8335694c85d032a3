"""Rules for rows of any kind."""

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.cleaning import images
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import near_duplicates
from tasks.rows.seen_keys import SeenKeys, hash_rows


class FirstOccurrences:
    """The rows that came to exact_duplicates, where it is given the data in parts."""

    def __init__(self) -> None:
        self.seen, self.ids = SeenKeys(), pa.chunked_array([], pa.string())
        self.latest: pa.Table | None = None  # the ids and keys of the last part
        self.duplicates_across_parts = 0  # how many of its rows are like one of a part before

    def contains_any(self, known: pa.Table) -> bool:
        return bool(self.seen.contains((known["high"].to_numpy(), known["low"].to_numpy())).any())

    def note(self, known: pa.Table) -> None:
        """Take a part as seen, of which `latest` was kept."""
        self.seen.note((known["high"].to_numpy(), known["low"].to_numpy()))
        self.ids = pa.chunked_array([*self.ids.chunks, *known["id"].chunks])


def reject_exact_duplicates(
    table: pa.Table, modality: str, firsts: FirstOccurrences | None = None
) -> list[str | None]:
    """All but the first of rows with equal content, also of those that came before in other parts."""
    firsts = firsts or FirstOccurrences()
    start, found = (
        firsts.seen.size,
        hash_rows(table, near_duplicates.find_content_columns(table, modality)),
    )
    first = firsts.seen.first(found)
    firsts.ids = pa.chunked_array([*firsts.ids.chunks, *table["id"].chunks], pa.string())
    firsts.latest = pa.table({"id": table["id"], "high": found[0], "low": found[1]})
    firsts.duplicates_across_parts = int((first < start).sum())
    reasons: list[str | None] = [None] * table.num_rows
    for row in np.flatnonzero(first != start + np.arange(table.num_rows)).tolist():
        reasons[row] = f"same as {firsts.ids[first[row]]}"
    return reasons


def reject_conflicting_duplicates(table: pa.Table, modality: str) -> list[str | None]:
    """All labelled rows of equal content, letter case and white space ignored, whose labels differ: nobody can learn from them."""
    contents = [
        near_duplicates.normalize_text(value) if isinstance(value, str) else value
        for value in near_duplicates.read_contents(table, modality)
    ]
    labelled = [
        (content, label and label.strip())
        for content, label in zip(contents, table["label"].to_pylist(), strict=True)
    ]
    said: dict[Any, set[str]] = defaultdict(set)
    for content, label in labelled:
        said[content] |= {label} if label else set()
    return [
        f"equal rows are labelled {', '.join(sorted(said[content]))}"
        if label and len(said[content]) > 1
        else None
        for content, label in labelled
    ]


def reject_near_duplicates(
    table: pa.Table, modality: str, threshold: float, distance: int
) -> list[str | None]:
    """Rows whose text or image is nearly that of a row that stays and comes before it by id."""
    ids = table["id"].to_pylist()
    if CONTENT_COLUMN[modality] == "text":
        pairs = near_duplicates.find_near_pairs(
            [text or "" for text in table["text"].to_pylist()], threshold
        )
    else:
        pairs = images.find_near_pairs(table["image"].to_pylist(), distance)
    reasons: list[str | None] = [None] * table.num_rows
    for kept, other, similarity in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        if reasons[kept] is None and reasons[other] is None:
            reasons[other] = f"{similarity:.0%} like {ids[kept]}"
    return reasons
