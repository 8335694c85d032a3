"""The cleaning rules by the names that recipes give them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tasks.cleaning import duplicates, images, pii, tables, text


class CleaningRule(NamedTuple):
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
    "encoding": CleaningRule(text.fix_encoding, texts=True),
    "html": CleaningRule(text.strip_html, texts=True),
    "unicode": CleaningRule(text.normalize_unicode, texts=True),
    "white_space": CleaningRule(text.normalize_white_space, texts=True),
    "control": CleaningRule(text.strip_invisible, texts=True),
    "language": CleaningRule(text.reject_language),
    "length": CleaningRule(text.reject_length),
    "unreadable": CleaningRule(images.reject_unreadable, whole=True),
    "size": CleaningRule(images.reject_size),
    "pii": CleaningRule(pii.protect_pii, by_modality=True),
    "trim": CleaningRule(tables.trim_cells),
    "missing": CleaningRule(tables.replace_missing_markers),
    "types": CleaningRule(tables.parse_types),
    "spelling": CleaningRule(tables.correct_spelling, whole=True),
    "range": CleaningRule(tables.reject_out_of_range),
    "outliers": CleaningRule(tables.handle_outliers, whole=True),
    "repair": CleaningRule(tables.repair_cells, whole=True),
    "exact_duplicates": CleaningRule(duplicates.reject_exact_duplicates, by_modality=True),
    "conflicting_duplicates": CleaningRule(
        duplicates.reject_conflicting_duplicates, whole=True, by_modality=True
    ),
    "near_duplicates": CleaningRule(
        duplicates.reject_near_duplicates, whole=True, by_modality=True
    ),
}
