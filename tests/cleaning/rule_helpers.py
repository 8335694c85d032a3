"""Applies one cleaning rule to columns."""

from typing import Any

import pyarrow as pa

from tasks.cleaning import RULES
from tasks.cleaning.rules import Reasons


def applied(
    rule: str, cells: dict[str, list[Any]], /, **arguments: Any
) -> tuple[dict[str, list[Any]], Reasons]:
    """Apply a rule with the arguments of a recipe; return the columns, and why each row goes."""
    table = pa.table(cells)
    outcome = RULES[rule].bind(arguments, "tabular").apply(table)
    return outcome.table.to_pydict(), outcome.reasons or [None] * table.num_rows
