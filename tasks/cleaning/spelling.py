"""The rule `spelling`: values of a column that are misspellings of frequent ones."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import pyarrow as pa
from rapidfuzz.distance import Levenshtein

from tasks.cleaning import table_cells
from tasks.cleaning.rules import table_rule

LETTERS_PER_EDIT = 4  # male and female are words of their own


@table_rule("spelling")
def correct_spelling(
    table: pa.Table,
    columns: Sequence[str],
    map: dict[str, str],  # noqa: A002
    distance: int,
    ratio: float,
) -> pa.Table:
    """Replace rare values that are nearly a frequent one.

    Values that differ in letter case and white space alone become the most frequent of them.

    Args:
        table: All rows.
        columns: The columns to correct.
        map: Values and what they become, before anything is compared.
        distance: The most letters that may be wrong.
        ratio: How many times as frequent the right value must be.
    """
    replacements = {normalize_value(value): wanted for value, wanted in map.items()}
    corrected = {}
    for name in table_cells.select_text_columns(table, "spelling", columns, []):
        cells = [replace_value(cell, replacements) for cell in table[name].to_pylist()]
        counts = Counter(cell for cell in cells if cell is not None)
        corrections = find_corrections(counts, distance, ratio)
        right = [None if cell is None else corrections.get(cell, cell) for cell in cells]
        corrected[name] = pa.array(right, pa.string())
    return table_cells.replace_columns(table, corrected)


def replace_value(cell: str | None, replacements: dict[str, str]) -> str | None:
    """Return what a recipe's map says that a cell becomes."""
    return None if cell is None else replacements.get(normalize_value(cell), cell)


def normalize_value(value: str) -> str:
    """Return what values share that differ in letter case and white space alone."""
    return " ".join(value.casefold().split())


def find_corrections(counts: Counter[str], distance: int, ratio: float) -> dict[str, str]:
    """Map misspelt values to the values that they stand for.

    A misspelling is at most `distance` edits away from a value that is `ratio` times as
    frequent. Values with other digits are other things: room 1 is no misspelling of room 2. A
    value between two equally near ones stays.
    """
    variants = group_variants(counts)
    totals = count_variants(counts, variants)
    min_total = ratio * min(totals.values(), default=0)
    index = PieceIndex(distance)
    if distance:
        index.add(key for key, total in totals.items() if total >= min_total)

    # Frequent keys come first, so it is known what a candidate itself stands for.
    stands_for: dict[str, str] = {}
    for key in sorted(totals, key=lambda key: -totals[key]):
        candidates = {
            other for other in index.find_candidates(key) if totals[other] >= ratio * totals[key]
        }
        nearest = find_nearest(key, candidates, distance)
        stands_for[key] = stands_for[nearest] if nearest else key

    corrections = {}
    for key, values in variants.items():
        right = variants[stands_for[key]][0]
        corrections.update({value: right for value in values if value != right})
    return corrections


def group_variants(counts: Counter[str]) -> dict[str, list[str]]:
    """Group values that differ in letter case and white space alone, the most frequent first."""
    variants: dict[str, list[str]] = defaultdict(list)
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        variants[normalize_value(value)].append(value)
    return variants


def count_variants(counts: Counter[str], variants: dict[str, list[str]]) -> dict[str, int]:
    """Add up how often the variants of each value occur."""
    totals = dict.fromkeys(variants, 0)
    for key, values in variants.items():
        for value in values:
            totals[key] += counts[value]
    return totals


class PieceIndex:
    """Finds texts within an edit distance without comparing every pair.

    Two texts that differ in at most `distance` places share one of distance + 1 pieces, at
    nearly the same place (Li et al. 2011). A matrix of all distances (rapidfuzz's cdist) is faster
    for up to some thousand values, but slower and quadratic in memory from 20,000 on.
    """

    def __init__(self, distance: int) -> None:
        self.distance = distance
        # by length of the text, number of the piece, and its letters
        self.texts: dict[tuple[int, int, str], list[str]] = defaultdict(list)

    def add(self, texts: Iterable[str]) -> None:
        """Add texts to be found."""
        for text in texts:
            for number, (start, end) in enumerate(cut_pieces(len(text), self.distance + 1)):
                self.texts[len(text), number, text[start:end]].append(text)

    def find_candidates(self, text: str) -> set[str]:
        """Find all added texts within the distance, and some others; never the text itself."""
        candidates: set[str] = set()
        for size in range(len(text) - self.distance, len(text) + self.distance + 1):
            for number, (start, end) in enumerate(cut_pieces(size, self.distance + 1)):
                for shift in range(-self.distance, self.distance + 1):
                    piece = text[max(0, start + shift) : max(0, end + shift)]
                    candidates.update(self.texts.get((size, number, piece), ()))
        return candidates - {text}


def cut_pieces(size: int, n_pieces: int) -> list[tuple[int, int]]:
    """Cut `size` characters into pieces of nearly the same length, as (start, end)."""
    cuts = [size * number // n_pieces for number in range(n_pieces + 1)]
    return list(pairwise(cuts))


def find_nearest(text: str, others: set[str], distance: int) -> str | None:
    """Find the one nearest text that differs in letters alone, in at most one of four."""
    limit = min(distance, len(text) // LETTERS_PER_EDIT)
    digits = extract_digits(text)
    nearest: list[str] = []
    best = limit + 1
    for other in others:
        edits = Levenshtein.distance(text, other)
        if edits > limit or edits > best or extract_digits(other) != digits:
            continue
        nearest = [*nearest, other] if edits == best else [other]
        best = edits
    return nearest[0] if len(nearest) == 1 else None


def extract_digits(text: str) -> list[str]:
    """Return the digits of a text."""
    return [letter for letter in text if letter.isdigit()]
