"""Suggestions for names that do not exist."""

import difflib
import itertools
from collections.abc import Iterable

MIN_SIMILARITY = 0.5
MAX_CHARACTERS = 100  # no name is longer, and comparing takes the square of the time
MAX_NAMES = 5000


def suggest_nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)` with the known name nearest to `name`, or an empty string."""
    if len(name) > MAX_CHARACTERS:
        return ""
    candidates = list(itertools.islice(known, MAX_NAMES))
    nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=MIN_SIMILARITY)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
