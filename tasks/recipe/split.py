"""Split."""

import datetime
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
)

from tasks.core import timestamps
from tasks.recipe.base import Fraction, Section


def validate_time(value: Any) -> Any:
    told = (
        value.isoformat() if isinstance(value, datetime.date) else value
    )  # YAML makes a date of 2026-01-31
    if (
        told is not None
        and timestamps.parse_number(told) is None
        and timestamps.parse_timestamp(told) is None
    ):
        raise ValueError(
            f"{told!r} is neither a number nor a date or time as ISO 8601 has it, such as 2026-01-31 or 2026-01-31T12:00:00Z"
        )
    return told


SplitTime = Annotated[float | str | None, BeforeValidator(validate_time)]


class Split(Section):
    """Which rows train, validate and test: by the hash of each row's content, or of its `group`, or by its `time`, the newest being tested.

    `val_from` and `test_from` are the times at which these sides begin; without them they are quantiles, which move when rows come. `folds` gives
    each row of train a number from 0 in the column `fold`.
    """

    val: Fraction = 0.1
    test: Fraction = 0.15
    group: str | None = None
    time: str | None = None
    val_from: SplitTime = None
    test_from: SplitTime = None
    folds: int | None = Field(None, ge=2, le=100)
    seed: int = 0

    def cross_field_errors(self) -> Iterator[str]:
        if self.val + self.test >= 0.9:
            yield f"val + test is {self.val + self.test:g}, which leaves less than a tenth of the rows for training: lower one"
        if self.time and self.group:
            yield "has both group and time: choose one, since a group may lie on both sides of a moment"
        given = [bound for bound in (self.val_from, self.test_from) if bound is not None]
        if given and not self.time:
            yield "val_from and test_from need `time`, the name of the column that they are about"
        if len(given) == 1:
            yield "needs both of val_from and test_from, or none"
        elif given and not timestamps.is_before(*given):
            yield f"val_from, {given[0]}, must be of the same kind as test_from, {given[1]}, and before it"
