"""The cleaning rules by the names that recipes give them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tasks.cleaning import duplicates, images, pii, tables, text


class Rule(NamedTuple):
    """`apply` takes, beside the arguments of the recipe, an Arrow table. It returns one with the same rows and columns, whose cells and their types may be
    others; or for each row why it is dropped, or None; or both. One for `texts` takes and returns a Daft expression: each text becomes a text.

    A rule that is not `whole` looks at one row at a time, so that it may be given the data in parts; one that is needs all rows at once.
    One `by_modality` takes the modality too, which says what the content of a row is.
    """

    apply: Callable[..., Any]
    texts: bool = False
    whole: bool = False
    by_modality: bool = False


RULES = {
    "encoding": Rule(text.mended, texts=True),
    "html": Rule(text.html_to_text, texts=True),
    "unicode": Rule(text.composed, texts=True),
    "white_space": Rule(text.single_spaces, texts=True),
    "control": Rule(text.visible, texts=True),
    "language": Rule(text.language),
    "length": Rule(text.length),
    "unreadable": Rule(images.unreadable, whole=True),
    "size": Rule(images.size),
    "pii": Rule(pii.protected, by_modality=True),
    "trim": Rule(tables.trim),
    "missing": Rule(tables.missing),
    "types": Rule(tables.types),
    "spelling": Rule(tables.spelling, whole=True),
    "range": Rule(tables.outside),
    "outliers": Rule(tables.outliers, whole=True),
    "repair": Rule(tables.repair, whole=True),
    "exact_duplicates": Rule(duplicates.exact_duplicates, by_modality=True),
    "conflicting_duplicates": Rule(duplicates.conflicting_duplicates, whole=True, by_modality=True),
    "near_duplicates": Rule(duplicates.near_duplicates, whole=True, by_modality=True),
}
