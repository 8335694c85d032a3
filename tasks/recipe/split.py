"""The section `split`: which rows train, validate and test."""

import datetime
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from tasks.core import timestamps
from tasks.recipe.base import Fraction, Section


def validate_time(value: object) -> object:
    """Accept a number, a date or a time; YAML has made a date of 2026-01-31 already."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    readings = (timestamps.parse_number(value), timestamps.parse_timestamp(value))
    if value is not None and readings == (None, None):
        raise ValueError(
            f"{value!r} is neither a number nor a date or time as ISO 8601 has it, such as "
            "2026-01-31 or 2026-01-31T12:00:00Z"
        )
    return value


SplitTime = Annotated[float | str | None, BeforeValidator(validate_time)]


class Split(Section):
    """Which rows train, validate and test.

    By default the hash of a row's content decides, so a row stays where it is when others come.
    """

    val: Fraction = Field(0.1, description="The share of the rows for validation.")
    test: Fraction = Field(0.15, description="The share of the rows for the test.")
    group: str | None = Field(
        None,
        description="A column; rows that share a value stay in the same split. The shares then "
        "count groups.",
    )
    time: str | None = Field(
        None, description="A column of times or numbers; the newest rows are the test."
    )
    val_from: SplitTime = Field(
        None,
        description="The time at which the validation rows begin. Without it and `test_from` the "
        "shares decide, so the limits move when rows come.",
    )
    test_from: SplitTime = Field(None, description="The time at which the test rows begin.")
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="The number of folds for cross-validation: each training row gets a number "
        "from 0 in the column `fold`, and `tune` measures each trial on all folds.",
    )
    seed: int = Field(0, description="Another seed gives another split of the same shares.")

    def cross_field_errors(self) -> Iterator[str]:
        """Describe mistakes in the shares, and in what divides the rows."""
        if self.val + self.test >= 0.9:
            yield (
                f"val + test is {self.val + self.test:g}, which leaves less than a tenth of the "
                "rows for training: lower one"
            )
        if self.time and self.group:
            yield (
                "has both group and time: choose one, since a group may lie on both sides of a "
                "moment"
            )
        yield from self.limit_errors()

    def limit_errors(self) -> Iterator[str]:
        """Describe mistakes in `val_from` and `test_from`."""
        has_val = self.val_from is not None
        has_test = self.test_from is not None
        if not has_val and not has_test:
            return
        if not self.time:
            yield "val_from and test_from need `time`, the name of the column of times"
        if has_val != has_test:
            yield "needs both of val_from and test_from, or none"
        elif not timestamps.is_before(self.val_from, self.test_from):
            yield (
                f"val_from, {self.val_from}, must be of the same kind as test_from, "
                f"{self.test_from}, and before it"
            )
