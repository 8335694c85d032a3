"""Rules for rows of any kind."""

from typing import Any

import pyarrow as pa

from tasks import duplicates
from tasks.cleaning.rule import Reasons, Rule


def exact_duplicates(table: pa.Table) -> Reasons:
    """All but the first, by id, of rows with equal content."""
    first: dict[Any, str] = {}
    reasons: Reasons = []
    for name, value in zip(table["id"].to_pylist(), duplicates.contents(table), strict=True):
        reasons.append(f"same as {first[value]}" if value in first else None)
        first.setdefault(value, name)
    return reasons


RULES = {"exact_duplicates": Rule("filter", exact_duplicates, whole=True)}
