"""Rules for rows of any kind."""

from collections import defaultdict
from typing import Any

import pyarrow as pa

from tasks import duplicates
from tasks.cleaning import images
from tasks.cleaning.rule import Reasons, Rule


def exact_duplicates(table: pa.Table) -> Reasons:
    """All but the first, by id, of rows with equal content."""
    first: dict[Any, str] = {}
    reasons: Reasons = []
    for name, value in zip(table["id"].to_pylist(), duplicates.contents(table), strict=True):
        reasons.append(f"same as {first[value]}" if value in first else None)
        first.setdefault(value, name)
    return reasons


def conflicting_duplicates(table: pa.Table) -> Reasons:
    """All labelled rows of equal content, letter case and white space ignored, whose labels differ: nobody can learn from them."""
    if "label" not in table.column_names:
        return [None] * table.num_rows
    keys = [" ".join(value.lower().split()) if isinstance(value, str) else value for value in duplicates.contents(table)]
    labels = [label and label.strip() for label in table["label"].to_pylist()]
    said: dict[Any, set[str]] = defaultdict(set)
    for key, label in zip(keys, labels, strict=True):
        if label:
            said[key].add(label)
    return [
        f"equal rows are labelled {', '.join(sorted(said[key]))}" if label and len(said[key]) > 1 else None for key, label in zip(keys, labels, strict=True)
    ]


def near_duplicates(table: pa.Table, threshold: float, distance: int) -> Reasons:
    """Rows whose text or image is nearly that of a row that stays and comes before it by id."""
    ids = table["id"].to_pylist()
    if "text" in table.column_names:
        pairs = duplicates.near_pairs([text or "" for text in table["text"].to_pylist()], threshold)
    else:
        pairs = images.near_pairs(table["image"].to_pylist(), distance)
    reasons: Reasons = [None] * table.num_rows
    for kept, other, similarity in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        if reasons[kept] is None and reasons[other] is None:
            reasons[other] = f"{similarity:.0%} like {ids[kept]}"
    return reasons


RULES = {
    "exact_duplicates": Rule("filter", exact_duplicates, whole=True),
    "conflicting_duplicates": Rule("filter", conflicting_duplicates, whole=True),
    "near_duplicates": Rule("filter", near_duplicates, whole=True),
}
