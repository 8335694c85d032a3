"""The section `split`: which rows train, validate and test."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from tasks.core import timestamps
from tasks.recipe.base import Section, Seed


def validate_time(value: object) -> object:
    """Accept a number, a date or a time."""
    readings = (timestamps.parse_number(value), timestamps.parse_timestamp(value))
    if value is not None and readings == (None, None):
        raise ValueError(
            f"{value!r} is neither a number nor a date or time as ISO 8601 has it, such as "
            "2026-01-31 or 2026-01-31T12:00:00Z"
        )
    return value


def validate_part(value: object) -> object:
    """Accept a share of the rows, or the values or files of a predefined part.

    One value is a list of one; values that YAML has read as numbers are text again.
    """
    if isinstance(value, float):
        return validate_share(value)
    names = [name_value(item) for item in (value if isinstance(value, list) else [value])]
    if "" in names or not names:
        raise ValueError(
            "must be a share of the rows, such as 0.1, or the values or files of a predefined "
            "part, as in [test]"
        )
    return names


def name_value(value: object) -> str:
    """Return a value of a column as text; nothing for what is no value."""
    return str(value) if isinstance(value, str | int) else ""


def validate_share(value: float) -> float:
    """Refuse what is no share of the rows."""
    if not 0 < value < 1:
        raise ValueError(
            f"{value!r}: input should be less than 1 and above 0, as a share of the rows is, or "
            "the values or files of a predefined part, as in [test]"
        )
    return value


def validate_train_part(value: object) -> object:
    """Accept the values or files of a predefined part, and no share: train gets what is left."""
    if isinstance(value, float):
        raise ValueError(
            f"{value:g} is a share, and train gets what val and test leave: leave it out, or "
            "write the values or files of a predefined part"
        )
    return None if value is None else validate_part(value)


Part = Annotated[float | list[str], BeforeValidator(validate_part)]
SplitTime = Annotated[float | str | None, BeforeValidator(validate_time)]


class Split(Section):
    """Which rows train, validate and test.

    By default the hash of a row's content decides, so a row stays where it is when others come.
    """

    val: Part = Field(
        0.1,
        description="The share of the rows for validation, above 0 and below 1; of a predefined "
        "split its values or files, as for `train`. A part that the data do not have is cut from "
        "train, by its share.",
    )
    test: Part = Field(0.15, description="The same for the test.")
    train: Annotated[list[str], BeforeValidator(validate_train_part)] | None = Field(
        None,
        description="The values of `column` whose rows train, as in [train]; without `column` "
        "the files, as in [old/*.csv]. Rows that are in no part are rejected.",
    )
    column: str | None = Field(
        None,
        description="The column of a predefined split. Without `train`, `val` and `test` the "
        "usual names are known, such as train, dev and test.",
    )
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
    seed: Seed = Field(0, description="Another seed gives another split of the same shares.")

    @property
    def val_share(self) -> float:
        """The share of the rows that are cut off for validation."""
        return self.val if isinstance(self.val, float) else 0.0

    @property
    def test_share(self) -> float:
        """The share of the rows that are cut off for the test."""
        return self.test if isinstance(self.test, float) else 0.0

    @property
    def named_parts(self) -> dict[str, list[str]]:
        """The values or files of the parts of a predefined split, as far as the recipe says."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        return {name: values for name, values in parts.items() if isinstance(values, list)}

    @property
    def file_patterns(self) -> dict[str, list[str]]:
        """The files of each part, if it is files that divide the rows."""
        return {} if self.column else self.named_parts

    def cross_field_errors(self) -> Iterator[str]:
        """Describe mistakes in the shares, and in what divides the rows."""
        shares = self.val_share + self.test_share
        if shares >= 0.9:
            yield (
                f"val + test is {shares:g}, which leaves less than a tenth of the "
                "rows for training: lower one"
            )
        yield from self.part_errors()
        if self.time and self.group:
            yield (
                "has both group and time: choose one, since a group may lie on both sides of a "
                "moment"
            )
        yield from self.limit_errors()

    def part_errors(self) -> Iterator[str]:
        """Describe mistakes in a predefined split."""
        parts = self.named_parts
        names_others = bool(parts) and self.train is None
        is_predefined = any((self.column, parts))
        if names_others:
            yield f"names {' and '.join(parts)} and not train: name the values or files of train"
        if is_predefined and self.time:
            yield "has a time beside a predefined split: leave out time, or column, train and test"
        yield from repeated_value_errors(parts)

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


def repeated_value_errors(parts: dict[str, list[str]]) -> Iterator[str]:
    """Describe values that are in two parts."""
    first_part: dict[str, str] = {}
    for part, values in parts.items():
        for value in values:
            other = first_part.setdefault(value, part)
            if other != part:
                yield f"has {value!r} in {other} and in {part}: keep one"
