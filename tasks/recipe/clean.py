"""The recipe: everything that a person says about a model, in one YAML file, checked completely before anything runs."""

import contextlib
import datetime
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
)

from tasks.core.suggest import suggest_nearest
from tasks.recipe import columns as recipe_columns
from tasks.recipe.base import Count, Fraction, Section
from tasks.recipe.errors import describe_error


class LengthLimits(Section):
    min: int = Field(1, ge=0)
    max: Count = 100_000


class LanguageFilter(Section):
    """Texts of at least `min_length` characters go if their language, told with at least this probability, is not among these (ISO 639-1, such as en)."""

    allow: list[Annotated[str, Field(pattern="^[a-z]{2,3}$")]] = Field(min_length=1)
    min_length: Count = 20
    probability: float = Field(0.8, gt=0.5, lt=1)


Pixels = Annotated[list[Count], Field(min_length=2, max_length=2)]


class ImageSize(Section):
    """Width and height in pixels, as in {min: [32, 32]}."""

    min: Pixels | None = None
    max: Pixels | None = None
    exact: Pixels | None = None

    def cross_field_errors(self) -> Iterator[str]:
        if (self.exact is None) == (self.min is None and self.max is None):
            yield "needs either exact, or min or max or both, each as [width, height]"
        if self.min and self.max and (self.min[0] > self.max[0] or self.min[1] > self.max[1]):
            yield f"has a min, {self.min}, above its max, {self.max}: no image could fit"


class NearDuplicates(Section):
    """`threshold` is the least similarity (Jaccard) of two texts; `distance` in how many of 64 bits the perceptual hashes of two images may differ."""

    threshold: Fraction = 0.8
    distance: int = Field(6, ge=0, le=16)


class Pii(Section):
    """Personal data: `mask` writes [email], `drop` rejects the row, `hash` writes a keyed hash and `encrypt` what `millrace reveal` reads again.

    `id` are national and tax numbers. `url` is off where kinds are not given, since links are content; `person` and `place` need a spaCy model.
    `columns` are by default the text, or in a table all columns without another role.
    """

    action: Literal["mask", "drop", "hash", "encrypt"] = "mask"
    kinds: list[Literal["email", "phone", "card", "iban", "ip", "id", "url", "person", "place"]] = (
        Field(["email", "phone", "card", "iban", "ip", "id"], min_length=1)
    )
    columns: list[str] | None = Field(None, min_length=1)


class Trim(Section):
    """`columns` are those to work on; all that hold text where they are not given."""

    columns: list[str] | None = Field(None, min_length=1)


class MissingValues(Section):
    """Cells that are one of `markers`, letter case ignored, become null; in all columns that hold text but the label where `columns` is not given."""

    markers: list[str] = Field(
        ["", "?", "-", "--", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "empty", "missing"],
        min_length=1,
    )
    columns: list[str] | None = Field(None, min_length=1)


class ColumnType(Section):
    """`unit` is what the numbers are to be in: 1.80 m becomes 180 where it is cm. `decimal` is the decimal mark where cells like 1,234 could be read in
    two ways; `format` how dates that are not ISO 8601 are written, such as %d/%m/%Y."""

    type: Literal["number", "integer", "boolean", "date"]
    unit: str | None = None
    decimal: Literal[".", ","] | None = None
    format: str | None = None

    def cross_field_errors(self) -> Iterator[str]:
        if self.type not in ("number", "integer") and (self.unit or self.decimal):
            yield f"has a unit or a decimal mark, which a {self.type} does not have: leave them out"
        if self.format is not None and self.type != "date":
            yield f"has a format, which is for dates, and the type is {self.type}: leave it out"
        elif self.format is not None:
            day, known = datetime.date(2026, 1, 31), False
            with contextlib.suppress(ValueError):
                known = (
                    datetime.datetime.strptime(day.strftime(self.format), self.format).date() == day
                )
            if not known:
                yield f"has the format {self.format!r}, which does not give day, month and year: write one such as %d/%m/%Y"


def expand_short_types(columns: Any) -> Any:
    if not isinstance(columns, dict):
        return columns
    recipe_columns.refuse_types(columns, ("id", "label"))
    return {
        name: {"type": about} if isinstance(about, str) else about
        for name, about in columns.items()
    }


class ColumnTypes(Section):
    """What the cells of columns are. Where one cannot be read as that, its row is rejected, or it becomes null."""

    columns: Annotated[
        dict[str, ColumnType], Field(min_length=1), BeforeValidator(expand_short_types)
    ]
    unparsed: Literal["reject", "null"] = "reject"


class Spelling(Section):
    """Values that are rare and at most `distance` letters from one that is `ratio` times as frequent become it; `map` says what others become."""

    columns: list[str] = Field(min_length=1)
    map: dict[str, str] = {}
    distance: int = Field(2, ge=0, le=3)
    ratio: float = Field(10.0, gt=1)


def validate_range_limit(bound: Any) -> Any:
    if isinstance(bound, str):
        try:
            datetime.date.fromisoformat(bound)
        except ValueError:
            raise ValueError(
                f"{bound!r} is neither a number nor a date such as 2026-01-31"
            ) from None
    return bound.isoformat() if isinstance(bound, datetime.date) else bound


RangeLimit = Annotated[int | float | str | None, BeforeValidator(validate_range_limit)]


class ValueRange(Section):
    """The least and the greatest value that a cell may have: numbers, or dates such as 2026-01-31."""

    min: RangeLimit = None
    max: RangeLimit = None


class ValueRanges(Section):
    """Rows with a cell outside the bounds of its column are rejected."""

    columns: dict[str, ValueRange] = Field(min_length=1)


class Outliers(Section):
    """Cells that lie far outside what is usual in their column: their rows are rejected, or they become null."""

    columns: list[str] = Field(min_length=1)
    method: Literal["iqr", "mad"] = "iqr"
    factor: float | None = Field(None, gt=0)
    action: Literal["reject", "null"] = "reject"


class Repair(Section):
    """Rows with equal cells in `by` are to have equal cells in each of `columns`: what more than `share` of them say replaces the others."""

    by: list[str] = Field(min_length=1)
    columns: list[str] = Field(min_length=1)
    share: float = Field(0.5, ge=0, lt=1)

    def cross_field_errors(self) -> Iterator[str]:
        if both := sorted(set(self.by) & set(self.columns)):
            yield f"has {both[0]!r} in by and in columns, but no column says what it is itself: take it out of one"


def validate_rules(declared: list[str | dict[str, Any]]) -> list[str | dict[str, Any]]:
    normalised: list[str | dict[str, Any]] = []
    for item in declared:
        if isinstance(item, dict) and len(item) != 1:
            raise ValueError(
                "each rule is a name or one name with its arguments, as in {length: {min: 3}}"
            )
        name, arguments = (item, {}) if isinstance(item, str) else next(iter(item.items()))
        if name not in CLEANING_RULES:
            raise ValueError(
                f"{name!r} is not a cleaning rule{suggest_nearest(name, CLEANING_RULES)}; the rules are {', '.join(CLEANING_RULES)}"
            )
        model = CLEANING_RULES[name]
        if model is None and arguments:
            raise ValueError(f"{name} takes no arguments")
        if model is Pii and isinstance(arguments, str):
            arguments = {"action": arguments}
        if model and not isinstance(arguments, dict):
            raise ValueError(
                f"{name} takes its arguments by name, as in {{length: {{min: 3}}}}, not {arguments!r}"
            )
        try:
            normalised.append({name: model.model_validate(arguments).model_dump() if model else {}})
        except ValidationError as error:
            told = [
                f"{name}.{describe_error(model or Section, item)}".replace(
                    ".recipe: ", ": ", 1
                ).rstrip(".")
                for item in error.errors()
            ]
            raise ValueError("; ".join(told)) from None
    names = [name for item in normalised for name in item]
    if (
        "conflicting_duplicates" in names
        and "exact_duplicates" in names[: names.index("conflicting_duplicates")]
    ):
        raise ValueError(
            "conflicting_duplicates must come before exact_duplicates, which leaves one of equal rows whatever their labels"
        )
    return normalised


class Clean(Section):
    """Cleaning rules in the order in which they are applied; `tasks/cleaning/` has one function for each."""

    rules: Annotated[list[str | dict[str, Any]], AfterValidator(validate_rules)]


CLEANING_RULES: dict[str, type[Section] | None] = {
    **dict.fromkeys(("encoding", "html", "unicode", "white_space", "control")), "pii": Pii, "language": LanguageFilter, "length": LengthLimits,
    "unreadable": None, "size": ImageSize,
    "trim": Trim, "missing": MissingValues, "types": ColumnTypes, "spelling": Spelling, "range": ValueRanges, "outliers": Outliers, "repair": Repair,
    "exact_duplicates": None, "conflicting_duplicates": None, "near_duplicates": NearDuplicates,
}  # fmt: skip
# The rules that are for texts or images alone; the others work on any row.
MODALITIES_OF_RULE = {
    **dict.fromkeys(
        ("encoding", "html", "unicode", "white_space", "control", "language", "length"),
        ("text", "causal_lm"),
    ),
    **dict.fromkeys(("unreadable", "size"), ("image",)),
    "near_duplicates": ("text", "image", "causal_lm"),
}
