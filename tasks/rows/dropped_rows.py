"""What a step drops: told at the terminal, and refused where it is more than the recipe allows."""

import math
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import StageError

REASONS = {
    "erased": "erase.csv lists them",
    "broken row": "they cannot be read as rows",
    "no id": "they have no id",
    "id given twice": "a row before has the same id",
    "language": "they are in a language that is not allowed",
    "length": "they are too short or too long",
    "unreadable": "they are no images that can be read",
    "size": "they are images of another size",
    "pii": "they hold personal data",
    "types": "a cell is not what its column holds",
    "range": "a cell is outside its column's bounds",
    "outliers": "a cell is far outside what is usual",
    "repair": "the cells by which they are repaired look wrong",
    "exact_duplicates": "a row before has the same content",
    "conflicting_duplicates": "rows of the same content have other labels",
    "near_duplicates": "a row before has nearly the same content",
    "no label": "they wait for a person in the review queue",
    "label looks wrong": "the other rows speak for another label",
    "near-duplicate on another side": "a row on another side has nearly the same content",
    "no time": "their time cannot be read",
}
# Rows that a person asked to drop, and rows that are kept for a person to label, are not lost.
INTENDED_RULES = ("erased", "no label")


def describe_counts(step: str, rows_in: int, rows: int, rules: Mapping[str, int]) -> str:
    """How many rows came to a step, how many stay, and how many each rule drops and why."""
    came = f"the source held {rows_in} rows" if step == "ingest" else f"{rows_in} rows came in"
    parts = [f"{rule} drops {count} ({REASONS[rule]})" for rule, count in rules.items() if count]
    return "; ".join([f"{step}: {came}, {rows} stay", *parts])


def check_max_dropped(
    step: str, rows_in: int, rules: Mapping[str, int], most: float, rejects: Path
) -> None:
    """Raise Failure where a step drops more than this share of its rows."""
    lost = {rule: count for rule, count in rules.items() if count and rule not in INTENDED_RULES}
    count = sum(lost.values())
    whole = rows_in - sum(rules.get(rule, 0) for rule in INTENDED_RULES)
    if count <= most * whole + 1e-9:  # what was asked for is allowed, however it is rounded
        return
    share = count / whole
    enough = math.ceil(share * 100) / 100
    by_rule = ", ".join(f"{rule} drops {number} ({REASONS[rule]})" for rule, number in lost.items())
    raise StageError(
        f"{step}: {count} of {whole} rows are dropped, {share:.0%}, and max_dropped allows {most:.0%}: {by_rule}. "
        f"{rejects} holds each of them with its reason. Mend the data or the recipe, "
        f"or, if they are to be dropped, set max_dropped: {enough:g} in the recipe."
    )
