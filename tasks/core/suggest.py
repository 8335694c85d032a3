"""Suggestions for names that do not exist."""

import difflib
from collections.abc import Iterable

MIN_SIMILARITY = 0.5


def suggest_nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean …?)` with the known name nearest to `name`, or an empty string."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=MIN_SIMILARITY)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
