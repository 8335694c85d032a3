"""How many rows a stage drops and why: printed, and an error if it drops too many."""

import math
from collections.abc import Mapping
from pathlib import Path

from tasks.core.errors import StageError
from tasks.recipe.cleaning_rules import CLEANING_RULES

# Why stages drop rows. The reasons of the cleaning rules stand in their schemas.
REASONS = {
    "erased": "erase.csv lists them",
    "broken row": "they cannot be read as rows",
    "file not read": "each is a file that holds no data that is read",
    "no id": "they have no id",
    "id given twice": "an earlier row has the same id",
    "no label": "they wait for a person in the review queue",
    "label looks wrong": "similar rows have another label",
    "near-duplicate on another side": "a row of another split has nearly the same content",
    "no time": "their time cannot be read",
    "in no part": "the predefined split has them in no part",
}
# Rows that a person asked to drop, and rows that wait for a label, are not lost.
INTENDED_RULES = ("erased", "no label")
ROUNDING_TOLERANCE = 1e-9  # rows


def describe_counts(stage: str, rows_in: int, rows: int, by_rule: Mapping[str, int]) -> str:
    """Say how many rows a stage got, how many remain, and how many each rule drops and why."""
    came = f"the source held {rows_in} rows" if stage == "ingest" else f"{rows_in} rows came in"
    drops = [describe_rule(rule, count) for rule, count in by_rule.items() if count]
    return "; ".join([f"{stage}: {came}, {rows} stay", *drops])


def describe_rule(rule: str, count: int) -> str:
    """Say how many rows a rule drops and why."""
    reason = REASONS.get(rule) or CLEANING_RULES[rule].reason
    return f"{rule} drops {count} ({reason})"


def check_max_dropped(
    stage: str, rows_in: int, by_rule: Mapping[str, int], max_dropped: float, rejects: Path
) -> None:
    """Stop if a stage drops more than the fraction `max_dropped` of its rows.

    Raises:
        StageError: It does; the message names the rules and the file with the rows.
    """
    n_intended = sum(by_rule.get(rule, 0) for rule in INTENDED_RULES)
    n_rows = rows_in - n_intended
    lost = {rule: count for rule, count in by_rule.items() if count and rule not in INTENDED_RULES}
    n_lost = sum(lost.values())
    if n_lost <= max_dropped * n_rows + ROUNDING_TOLERANCE:
        return
    fraction = n_lost / n_rows
    enough = math.ceil(fraction * 100) / 100
    rules = ", ".join(describe_rule(rule, count) for rule, count in lost.items())
    raise StageError(
        f"{stage}: {n_lost} of {n_rows} rows are dropped, {fraction:.0%}, "
        f"and max_dropped allows {max_dropped:.0%}: {rules}. "
        f"{rejects} holds each of them with its reason. Mend the data or the recipe, "
        f"or, if they are to be dropped, set max_dropped: {enough:g} in the recipe."
    )
