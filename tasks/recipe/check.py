"""The section `check`: what has to hold for the data as they came and as they go into training."""

import importlib.metadata
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from tasks.core.suggest import suggest_nearest
from tasks.recipe.base import FiniteJson, Fraction, Section

Arguments = dict[str, FiniteJson]
# One name with its arguments, as in {expect_column_to_exist: {column: text}}.
Expectation = dict[str, Arguments]

COLUMN_ARGUMENTS = ("column", "column_A", "column_B")
COLUMN_LIST_ARGUMENT = "column_list"
EXPECTATIONS_LIST = "great_expectations/expectations/core/__init__.py"


def validate_row_multiples(multiples: list[float]) -> list[float]:
    """Refuse multiples between which 1 does not lie."""
    smallest, largest = multiples
    if not 0 <= smallest <= 1 <= largest:
        raise ValueError(
            "must be the smallest and the largest multiple that is accepted, with 1 between "
            "them, as in [0.5, 2.0]"
        )
    return multiples


RowMultiples = Annotated[
    list[float], Field(min_length=2, max_length=2), AfterValidator(validate_row_multiples)
]


class Drift(Section):
    """How far a snapshot may be from the last one that was accepted; null turns a limit off."""

    rows: RowMultiples | None = Field(
        [0.5, 2.0],
        description="The smallest and the largest number of rows, as multiples of the earlier "
        "number.",
    )
    columns: bool = Field(
        default=True, description="Whether the columns and their types must stay."
    )
    shares: Fraction | None = Field(
        0.1, description="The most by which the share of a class may change."
    )
    psi: float | None = Field(
        0.25, gt=0, description="The largest population stability index of a column."
    )
    ignore: list[str] = Field([], description="Columns that the index leaves out.")
    severity: Literal["fail", "warn"] = Field(
        "warn", description="Whether drift stops the run or is only shown."
    )


def validate_expectations(expectations: list[Expectation]) -> list[Expectation]:
    """Refuse expectations of another form, of unknown names, or given twice."""
    seen: list[Expectation] = []
    for expectation in expectations:
        if len(expectation) != 1:
            raise ValueError(
                "each expectation is one name with its arguments, as in "
                "{expect_column_values_to_not_be_null: {column: text}}"
            )
        [(name, arguments)] = expectation.items()
        for sentence in expectation_errors(name, arguments):
            raise ValueError(sentence)
        key = {name: {key: value for key, value in arguments.items() if key != "severity"}}
        if key in seen:
            raise ValueError(f"{name} is given twice with the same arguments: remove one")
        seen.append(key)
    return expectations


def expectation_errors(name: str, arguments: Arguments) -> Iterator[str]:
    """Describe an unknown name or severity, and columns that are no names."""
    names = list_expectation_names()
    if name not in names:
        suggestion = suggest_nearest(name, names)
        yield f"{name!r} is not an expectation of Great Expectations{suggestion}"
    severity = arguments.get("severity", "fail")
    if severity not in ("fail", "warn"):
        yield (
            f"{name}: severity: {severity!r} is not allowed; fail stops the run, warn only shows it"
        )
    for key in COLUMN_ARGUMENTS:
        if key in arguments and not isinstance(arguments[key], str):
            yield f"{name}: {key}: {arguments[key]!r} is not the name of a column: write a text"
    if not is_list_of_names(arguments.get(COLUMN_LIST_ARGUMENT, [])):
        yield f"{name}: {COLUMN_LIST_ARGUMENT} is not a list of names: write [first, second]"


def is_list_of_names(value: JsonValue) -> bool:
    """Tell whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


Expectations = Annotated[list[Expectation], AfterValidator(validate_expectations)]


class Check(Section):
    """Expectations by their Great Expectations names, each with its arguments.

    With `severity: warn` among the arguments a failure is only shown; by default it stops the run.
    """

    raw: Expectations = Field([], description="What has to hold for the data as they came.")
    ready: Expectations = Field(
        [], description="What has to hold for the data that go into training."
    )
    drift: Drift | None = Field(
        Drift(),
        description="How far a snapshot may be from the last accepted one; null compares nothing.",
    )


@cache
def list_expectation_names() -> frozenset[str]:
    """List the expectations of Great Expectations, from its source: an import takes seconds."""
    distribution = importlib.metadata.distribution("great_expectations")
    source = Path(str(distribution.locate_file(EXPECTATIONS_LIST))).read_text(encoding="utf-8")
    return frozenset(re.findall(r"^from \.(expect_\w+) import", source, re.MULTILINE))
