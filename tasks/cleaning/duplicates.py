"""Rules that reject rows because of other rows: equal, contradictory or nearly equal ones."""

from collections import defaultdict
from collections.abc import Hashable

import numpy as np
import pyarrow as pa

from tasks.cleaning import images
from tasks.cleaning.rules import ContentKeys, Reasons, RuleOutcome, row_rule, table_rule
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import near_duplicates
from tasks.rows.seen_keys import RowKeys, SeenKeys, hash_rows


class FirstOccurrences:
    """The rows of the parts so far, by the keys of their content."""

    def __init__(self) -> None:
        self.seen = SeenKeys()
        self.ids = pa.chunked_array([], pa.string())

    def contains_any(self, keys: ContentKeys) -> bool:
        """Tell whether any row of a part equals one of the parts so far."""
        return bool(self.seen.contains(read_row_keys(keys)).any())

    def add(self, keys: ContentKeys) -> None:
        """Add the rows of a part that an earlier run cleaned."""
        self.seen.add_pending(read_row_keys(keys))
        self.ids = pa.chunked_array([*self.ids.chunks, *keys.table["id"].chunks])

    def reject_repeated(self, table: pa.Table, modality: str) -> RuleOutcome:
        """Add the rows of a part, and reject those that equal an earlier row of any part."""
        n_earlier = self.seen.size
        keys = hash_rows(table, near_duplicates.find_content_columns(table, modality))
        first_rows = self.seen.first_rows(keys)  # [rows], numbered through all parts
        self.ids = pa.chunked_array([*self.ids.chunks, *table["id"].chunks], pa.string())
        own_rows = n_earlier + np.arange(table.num_rows)
        reasons: Reasons = [None] * table.num_rows
        for row in np.flatnonzero(first_rows != own_rows).tolist():
            reasons[row] = f"same as {self.ids[first_rows[row]]}"
        content_keys = ContentKeys(
            pa.table({"id": table["id"], "high": keys.high, "low": keys.low}),
            duplicates_across_parts=int((first_rows < n_earlier).sum()),
        )
        return RuleOutcome(table, reasons, content_keys)


def read_row_keys(keys: ContentKeys) -> RowKeys:
    """Return the keys as they are looked up."""
    return RowKeys(keys.table["high"].to_numpy(), keys.table["low"].to_numpy())


@row_rule("exact_duplicates")
def reject_exact_duplicates(
    table: pa.Table, modality: str, first_occurrences: FirstOccurrences | None = None
) -> RuleOutcome:
    """Reject all but the first of rows with equal content.

    `first_occurrences` holds the rows of earlier parts, if the data come in parts.
    """
    return (first_occurrences or FirstOccurrences()).reject_repeated(table, modality)


@table_rule("conflicting_duplicates")
def reject_conflicting_duplicates(table: pa.Table, modality: str) -> Reasons:
    """Reject labelled rows of equal content whose labels differ: no model can learn from them.

    Letter case and white space of texts do not count.
    """
    contents = [
        normalize_content(content) for content in near_duplicates.read_contents(table, modality)
    ]
    labels = [label and label.strip() for label in table["label"].to_pylist()]
    labels_of: dict[Hashable, set[str]] = defaultdict(set)
    for content, label in zip(contents, labels, strict=True):
        if label:
            labels_of[content].add(label)
    reasons: Reasons = []
    for content, label in zip(contents, labels, strict=True):
        if label and len(labels_of[content]) > 1:
            reasons.append(f"equal rows are labelled {', '.join(sorted(labels_of[content]))}")
        else:
            reasons.append(None)
    return reasons


def normalize_content(content: Hashable) -> Hashable:
    """Return what texts share that differ in letter case and white space alone."""
    return near_duplicates.normalize_text(content) if isinstance(content, str) else content


@table_rule("near_duplicates")
def reject_near_duplicates(
    table: pa.Table, modality: str, threshold: float, distance: int
) -> Reasons:
    """Reject rows whose text or image is nearly that of a row that stays and comes earlier.

    Args:
        table: The rows, sorted by id.
        modality: Whether the content is a text or an image.
        threshold: The least Jaccard similarity of two texts.
        distance: In how many of 64 bits the hashes of two images may differ.
    """
    if CONTENT_COLUMN[modality] == "text":
        texts = [text or "" for text in table["text"].to_pylist()]
        pairs = near_duplicates.find_near_pairs(texts, threshold)
    else:
        pairs = images.find_near_pairs(table["image"].to_pylist(), distance)
    ids = table["id"].to_pylist()
    reasons: Reasons = [None] * table.num_rows
    for earlier, later, similarity in sorted(pairs, key=lambda pair: (pair.second, pair.first)):
        if reasons[earlier] is None and reasons[later] is None:
            reasons[later] = f"{similarity:.0%} like {ids[earlier]}"
    return reasons
