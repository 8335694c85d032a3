"""Which values of a column are misspellings of others."""

from collections import Counter, defaultdict

from rapidfuzz.distance import Levenshtein


def normalize_value(value: str) -> str:
    """What values share that differ in letter case and white space alone."""
    return " ".join(value.casefold().split())


def find_corrections(counts: Counter[str], distance: int, ratio: float) -> dict[str, str]:
    """Misspelt value → the value that it stands for, at most `distance` edits away and `ratio` times as frequent.

    Values with other figures are other things: room 1 is no misspelling of room 2. Two equally near ones leave a value as it is. Candidates share
    one of `distance` + 1 pieces, as what differs in fewer places must (Li et al. 2011), so that not every pair is compared.
    """
    variants: dict[str, list[str]] = defaultdict(list)
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        variants[normalize_value(value)].append(value)
    total = {key: sum(counts[value] for value in found) for key, found in variants.items()}
    often = ratio * min(total.values(), default=0)
    index: dict[tuple[int, int, str], list[str]] = defaultdict(list)
    for key in total:
        if distance and total[key] >= often:
            for number, (start, end) in enumerate(cut_pieces(len(key), distance)):
                index[len(key), number, key[start:end]].append(key)
    stands_for: dict[str, str] = {}
    for key in sorted(
        total, key=lambda key: -total[key]
    ):  # what is more frequent first, so that what it stands for is known
        found = find_nearest(
            key,
            {
                other
                for other in find_candidates(key, index, distance)
                if total[other] >= ratio * total[key]
            },
            distance,
        )
        stands_for[key] = stands_for[found] if found else key
    right = {
        value: variants[stands_for[key]][0] for key, found in variants.items() for value in found
    }
    return {value: meant for value, meant in right.items() if value != meant}


def find_candidates(
    key: str, index: dict[tuple[int, int, str], list[str]], distance: int
) -> set[str]:
    """The indexed values that share a piece with this one, at nearly the same place."""
    found: set[str] = set()
    for size in range(len(key) - distance, len(key) + distance + 1):
        for number, (start, end) in enumerate(cut_pieces(size, distance)):
            for shift in range(-distance, distance + 1):
                found.update(
                    index.get((size, number, key[max(0, start + shift) : max(0, end + shift)]), ())
                )
    return found - {key}


def find_nearest(key: str, others: set[str], distance: int) -> str | None:
    """The one other value that is nearest, in letters alone. At most one letter in four may be wrong: male and female are words of their own."""
    limit = min(distance, len(key) // 4)
    best = sorted(
        (edited, other)
        for other in others
        if extract_digits(other) == extract_digits(key)
        and (edited := Levenshtein.distance(key, other)) <= limit
    )
    return best[0][1] if best and (len(best) == 1 or best[0][0] < best[1][0]) else None


def cut_pieces(size: int, distance: int) -> list[tuple[int, int]]:
    """A text of `size` characters cut into distance + 1 pieces of nearly the same length, as (start, end)."""
    cuts = [size * number // (distance + 1) for number in range(distance + 2)]
    return list(zip(cuts, cuts[1:], strict=False))


def extract_digits(value: str) -> list[str]:
    return [sign for sign in value if sign.isdigit()]
