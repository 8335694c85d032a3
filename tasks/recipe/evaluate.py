"""The section `evaluate`: on which rows a model is measured, and how sure the numbers are."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from tasks.recipe.base import Count, Fraction, Section, Seed


class Slice(Section):
    """Test rows that are measured on their own, by a column.

    Without values and edges each value of the column is a slice, or of numbers each quarter. The
    column's name alone is short for {column: NAME}.
    """

    column: str = Field(description="The column; for texts `length` is the length of the text.")
    values: list[str | int | float | bool] | None = Field(
        None, min_length=1, description="The values that are slices, if not all are."
    )
    edges: list[float] | None = Field(
        None, min_length=1, description="The limits between the slices of a column of numbers."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe a slice by values and by edges."""
        if self.values and self.edges:
            yield "has values and edges: write values for categories, or edges for numbers"


def expand_short_slice(slice_or_name: object) -> object:
    """Accept the name of a column as the slices of its values."""
    return {"column": slice_or_name} if isinstance(slice_or_name, str) else slice_or_name


def refuse_repeated_columns(slices: list[Slice]) -> list[Slice]:
    """Refuse two entries for one column."""
    seen = set()
    for item in slices:
        if item.column in seen:
            raise ValueError(f"has {item.column!r} twice: put its values or edges into one")
        seen.add(item.column)
    return slices


Slices = Annotated[
    list[Annotated[Slice, BeforeValidator(expand_short_slice)]],
    AfterValidator(refuse_repeated_columns),
]


class Evaluate(Section):
    """On which rows the model is measured, with intervals from the bootstrap."""

    slices: Slices = Field(
        [],
        description="Parts of the test rows to measure on their own: names of columns, or "
        "mappings such as {column: age, edges: [25, 65]}.",
    )
    sensitive: list[str] = Field(
        [],
        description="Columns between whose groups the model should make no difference; the "
        "report shows the gaps.",
    )
    support: Count = Field(
        20, description="The fewest rows for which a slice or group gets its own metrics."
    )
    resamples: int = Field(
        1000, ge=100, le=100_000, description="How often the test rows are drawn anew."
    )
    confidence: Fraction = Field(0.95, description="The confidence of the intervals.")
    seed: Seed = Field(0, description="The seed of the draws.")
