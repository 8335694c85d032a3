"""Evaluate."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
)

from tasks.recipe.base import Count, Fraction, Section


class Slice(Section):
    """The rows that have one of `values` in the column, or any of its values; of numbers its quarters, or the ranges between `edges`."""

    column: str
    values: list[str | int | float | bool] | None = Field(None, min_length=1)
    edges: list[float] | None = Field(None, min_length=1)

    def cross_field_errors(self) -> Iterator[str]:
        if self.values and self.edges:
            yield "has values and edges: write values for categories, or edges for numbers"


def expand_short_slice(one: Any) -> Any:
    return {"column": one} if isinstance(one, str) else one


def refuse_repeated_columns(slices: list[Slice]) -> list[Slice]:
    names = [one.column for one in slices]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"has {twice[0]!r} twice: put its values or edges into one")
    return slices


class Evaluate(Section):
    """Metrics with intervals, of the test split and of `slices`: columns, or {column: age, edges: [25, 65]}, or {column: plan, values: [pro]}; for texts also
    their `length`. `sensitive` are columns between whose groups the model should make no difference. Of fewer rows than `support` no metric is told."""

    slices: Annotated[
        list[Annotated[Slice, BeforeValidator(expand_short_slice)]],
        AfterValidator(refuse_repeated_columns),
    ] = []
    sensitive: list[str] = []
    support: Count = 20
    resamples: int = Field(1000, ge=100, le=100_000)
    confidence: Fraction = 0.95
    seed: int = 0
