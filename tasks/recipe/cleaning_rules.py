"""What a recipe may say of each cleaning rule: its name, arguments and modalities."""

import contextlib
import datetime
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tasks.recipe.base import Count, Fraction, Section
from tasks.recipe.defaults import CONTENT_COLUMN

DATE_EXAMPLE = datetime.date(2026, 1, 31)
Language = Annotated[str, Field(pattern="^[a-z]{2,3}$")]
Pixels = Annotated[list[Count], Field(min_length=2, max_length=2)]
SomeColumns = Annotated[list[str], Field(min_length=1)]
PiiKind = Literal["email", "phone", "card", "iban", "ip", "id", "url", "person", "place"]

# Modalities, by the content of their rows.
TEXTS = tuple(name for name, content in CONTENT_COLUMN.items() if content == "text")
IMAGES = tuple(name for name, content in CONTENT_COLUMN.items() if content == "image")
TEXTS_AND_IMAGES = tuple(name for name, content in CONTENT_COLUMN.items() if content is not None)

MISSING_MARKERS = [
    "",
    "?",
    "-",
    "--",
    "na",
    "n/a",
    "#n/a",
    "nan",
    "null",
    "none",
    "nil",
    "empty",
    "missing",
]


class LengthLimits(Section):
    """Drop texts that are too short or too long."""

    min: int = Field(1, ge=0, le=1_000_000_000, description="The fewest characters.")
    max: Count = Field(100_000, description="The most characters.")


class LanguageFilter(Section):
    """Drop texts in other languages (Lui and Baldwin 2012)."""

    allow: list[Language] = Field(
        min_length=1, description="The languages that stay, by their ISO 639-1 codes such as en."
    )
    min_length: Count = Field(
        20, description="The fewest characters from which a language is recognized."
    )
    probability: float = Field(
        0.8, gt=0.5, lt=1, description="The least probability of another language to drop a text."
    )


class ImageSize(Section):
    """Drop images of other sizes, each given as [width, height] in pixels."""

    min: Pixels | None = Field(None, description="The smallest width and height.")
    max: Pixels | None = Field(None, description="The largest width and height.")
    exact: Pixels | None = Field(None, description="The only width and height.")

    def cross_field_errors(self) -> Iterator[str]:
        """Describe sizes that do not go together."""
        has_limits = self.min is not None or self.max is not None
        has_exact = self.exact is not None
        if has_exact == has_limits:
            yield "needs either exact, or min or max or both, each as [width, height]"
        if self.min and self.max and fits_no_image(self.min, self.max):
            yield f"has a min, {self.min}, above its max, {self.max}: no image could fit"


def fits_no_image(smallest: list[int], largest: list[int]) -> bool:
    """Tell whether a smallest size is above a largest one in width or height."""
    return smallest[0] > largest[0] or smallest[1] > largest[1]


class Resize(Section):
    """Bring all images to one size, as the model does with those that it is asked about later."""

    to: Annotated[list[Count], Field(min_length=2, max_length=2)] = Field(
        description="The size as [height, width] in pixels."
    )
    how: Literal["pad", "crop", "stretch"] = Field(
        "pad",
        description="What becomes of another shape: `pad` keeps the whole image and fills the "
        "rest with the colour of its border, `crop` cuts off what is beside the middle, and "
        "`stretch` changes the shape.",
    )


class NearDuplicates(Section):
    """Drop all but the first of rows with nearly the same content."""

    threshold: Fraction = Field(
        0.8, description="The least similarity (Jaccard) of two texts that are nearly the same."
    )
    distance: int = Field(
        6,
        ge=0,
        le=16,
        description="In how many of 64 bits the perceptual hashes of two such images may differ.",
    )


class Pii(Section):
    """Protect personal data. The action alone is short for {action: ACTION}."""

    action: Literal["mask", "drop", "hash", "encrypt"] = Field(
        "mask",
        description="`mask` writes [email], `drop` drops the row, `hash` writes a keyed hash and "
        "`encrypt` what `millrace reveal` can read again.",
    )
    kinds: list[PiiKind] = Field(
        ["email", "phone", "card", "iban", "ip", "id"],
        min_length=1,
        description="What to look for. `id` is national and tax numbers; `url` is off by "
        "default, since links are content; `person` and `place` need a spaCy model.",
    )
    columns: SomeColumns | None = Field(
        None,
        description="The columns to search; by default the text, in a table all columns without "
        "another role.",
    )


class Trim(Section):
    """Take white space off the ends of cells, and make a run of it one blank."""

    columns: SomeColumns | None = Field(
        None, description="The columns to change; by default all that hold text."
    )


class MissingValues(Section):
    """Make cells null that only say that nothing is known."""

    markers: list[str] = Field(
        MISSING_MARKERS, min_length=1, description="What such cells hold; letter case is ignored."
    )
    columns: SomeColumns | None = Field(
        None, description="The columns to change; by default all that hold text but the label."
    )


class ColumnType(Section):
    """What the cells of a column are. The type alone is short for {type: TYPE}."""

    type: Literal["number", "integer", "boolean", "date"] = Field(description="The type.")
    unit: str | None = Field(
        None, description="The unit of the result: with cm, `1.80 m` becomes 180."
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="The decimal mark, if cells like 1,234 can be read in two ways."
    )
    format: str | None = Field(
        None, description="How dates are written that are not ISO 8601, such as %d/%m/%Y."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe keys that the type does not have."""
        if self.type not in ("number", "integer") and (self.unit or self.decimal):
            yield f"has a unit or a decimal mark, which a {self.type} does not have: leave them out"
        if self.format is None:
            return
        if self.type != "date":
            yield f"has a format, which is for dates, and the type is {self.type}: leave it out"
        elif not keeps_dates(self.format):
            yield (
                f"has the format {self.format!r}, which does not give day, month and year: write "
                "one such as %d/%m/%Y"
            )


def keeps_dates(date_format: str) -> bool:
    """Tell whether a date that is written in the format can be read again."""
    with contextlib.suppress(ValueError, re.error):  # a part of the format is given twice
        text = DATE_EXAMPLE.strftime(date_format)
        return datetime.datetime.strptime(text, date_format).date() == DATE_EXAMPLE
    return False


def expand_short_types(columns: object) -> object:
    """Accept the name of a type in place of a mapping, and refuse columns with a role."""
    if not isinstance(columns, dict):
        return columns
    refuse_typed_roles(columns, ("id", "label"))
    return {
        name: {"type": column_type} if isinstance(column_type, str) else column_type
        for name, column_type in columns.items()
    }


def refuse_typed_roles(columns: Collection[object], roles: Iterable[str | None]) -> None:
    """Refuse types for columns that the pipeline needs as they are."""
    for name in roles:
        if name in columns:
            raise ValueError(
                f"gives a type to {name!r}, which the pipeline needs as it is: leave it out"
            )


class ColumnTypes(Section):
    """Read cells as numbers, dates or truth values."""

    columns: Annotated[
        dict[str, ColumnType], Field(min_length=1), BeforeValidator(expand_short_types)
    ] = Field(description="The types by column, as in {age: integer, height: {type: number}}.")
    unparsed: Literal["reject", "null"] = Field(
        "reject", description="Whether a cell of another type drops its row or becomes null."
    )


class Spelling(Section):
    """Correct values that are rare and nearly a frequent one."""

    columns: SomeColumns = Field(description="The columns to change.")
    map: dict[str, str] = Field({}, description="Corrections to make in any case.")
    distance: int = Field(
        2, ge=0, le=3, description="The most letters in which a misspelt value may differ."
    )
    ratio: float = Field(
        10.0, gt=1, description="How many times as frequent the right value must be."
    )


def validate_range_limit(limit: object) -> object:
    """Accept a number or a date."""
    if isinstance(limit, str):
        try:
            datetime.date.fromisoformat(limit)
        except ValueError:
            raise ValueError(
                f"{limit!r} is neither a number nor a date such as 2026-01-31"
            ) from None
    return limit


RangeLimit = Annotated[int | float | str | None, BeforeValidator(validate_range_limit)]


class ValueRange(Section):
    """The limits of a column: numbers, or dates such as 2026-01-31."""

    min: RangeLimit = Field(None, description="The least value.")
    max: RangeLimit = Field(None, description="The greatest value.")


class ValueRanges(Section):
    """Drop rows with a cell outside the limits of its column."""

    columns: dict[str, ValueRange] = Field(
        min_length=1, description="The limits by column, as in {age: {min: 0, max: 120}}."
    )


class Outliers(Section):
    """Find cells far outside what is usual in their column."""

    columns: SomeColumns = Field(description="The columns of numbers or dates to search.")
    method: Literal["iqr", "mad"] = Field(
        "iqr",
        description="How far is measured: from the quartiles (Tukey 1977), or by the median "
        "absolute deviation (Iglewicz and Hoaglin 1993).",
    )
    factor: float | None = Field(
        None,
        gt=0,
        description="How many times that distance is too far; by default 3 for iqr, 3.5 for mad.",
    )
    action: Literal["reject", "null"] = Field(
        "reject", description="Whether such a cell drops its row or becomes null."
    )


class Repair(Section):
    """Make cells equal that should be, since other cells of their rows are."""

    by: SomeColumns = Field(description="The columns whose equal cells mean the same thing.")
    columns: SomeColumns = Field(description="The columns to change.")
    share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="A value replaces the others if more than this share of the rows have it.",
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe a column that would repair itself."""
        both = sorted(set(self.by) & set(self.columns))
        if both:
            yield (
                f"has {both[0]!r} in by and in columns, but a column cannot repair itself: take "
                "it out of one"
            )


@dataclass(frozen=True)
class RuleSchema:
    """What a recipe may say about a cleaning rule."""

    description: str
    arguments: type[Section] | None = None
    modalities: Sequence[str] = ()  # those that it works on; all if there are none
    reason: str = ""  # why it rejects rows; empty if it rejects none


def with_arguments(
    arguments: type[Section], modalities: Sequence[str] = (), reason: str = ""
) -> RuleSchema:
    """Describe a rule by its arguments."""
    return RuleSchema(str(arguments.__doc__).splitlines()[0], arguments, modalities, reason)


CLEANING_RULES: dict[str, RuleSchema] = {
    "encoding": RuleSchema("Undo wrong encodings (mojibake), by ftfy.", modalities=TEXTS),
    "html": RuleSchema("Take out HTML tags, and the entities beside them.", modalities=TEXTS),
    "unicode": RuleSchema("Normalize to Unicode NFC.", modalities=TEXTS),
    "white_space": RuleSchema(
        "Make runs of blanks one blank, and of empty lines one line.", modalities=TEXTS
    ),
    "control": RuleSchema("Take out control and invisible characters.", modalities=TEXTS),
    "pii": with_arguments(Pii, reason="they hold personal data"),
    "language": with_arguments(
        LanguageFilter, TEXTS, reason="they are in a language that is not allowed"
    ),
    "length": with_arguments(LengthLimits, TEXTS, reason="they are too short or too long"),
    "unreadable": RuleSchema(
        "Drop images that cannot be decoded.",
        modalities=IMAGES,
        reason="they are not readable images",
    ),
    "size": with_arguments(ImageSize, IMAGES, reason="they are images of another size"),
    "resize": with_arguments(Resize, IMAGES, reason="they are not readable images"),
    "same_size": RuleSchema(
        "Drop images of another size than most.",
        modalities=IMAGES,
        reason="their size is not that of most images, and resize: {to: [height, width]} before "
        "same_size keeps them",
    ),
    "trim": with_arguments(Trim),
    "missing": with_arguments(MissingValues),
    "types": with_arguments(ColumnTypes, reason="a cell does not have its column's type"),
    "spelling": with_arguments(Spelling),
    "range": with_arguments(ValueRanges, reason="a cell is outside its column's range"),
    "outliers": with_arguments(Outliers, reason="a cell is an outlier"),
    "repair": with_arguments(Repair),
    "exact_duplicates": RuleSchema(
        "Drop all but the first of rows with equal content.",
        reason="an earlier row has the same content",
    ),
    "conflicting_duplicates": RuleSchema(
        "Drop all rows with equal content whose labels differ; letter case and white space are "
        "ignored.",
        reason="rows of the same content have other labels",
    ),
    "near_duplicates": with_arguments(
        NearDuplicates, TEXTS_AND_IMAGES, reason="an earlier row has nearly the same content"
    ),
}


def describe_rule(rule: RuleSchema) -> str:
    """Describe a rule, and the modalities that it works on if not all."""
    if not rule.modalities:
        return rule.description
    return f"{rule.description} For the modality {' or '.join(rule.modalities)}."
