"""Check."""

import importlib.metadata
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
)

from tasks.core.suggest import suggest_nearest
from tasks.recipe.base import Fraction, Section


def validate_row_multiples(rows: list[float]) -> list[float]:
    if not 0 <= rows[0] <= 1 <= rows[1]:
        raise ValueError(
            "must be the smallest and the largest multiple that is accepted, with 1 between them, as in [0.5, 2.0]"
        )
    return rows


class Drift(Section):
    """How far a snapshot may be from the last one that was accepted; null turns one of these off, and `drift: null` all.

    `rows` bounds its number of rows as a multiple of the earlier one, `psi` the population stability index of each column that is not in `ignore`,
    `shares` the change of each class's share; with `columns`, columns and their types must stay.
    """

    rows: (
        Annotated[
            list[float], Field(min_length=2, max_length=2), AfterValidator(validate_row_multiples)
        ]
        | None
    ) = [0.5, 2.0]
    columns: bool = True
    shares: Fraction | None = 0.1
    psi: float | None = Field(0.25, gt=0)
    ignore: list[str] = []
    severity: Literal["fail", "warn"] = "warn"


class Check(Section):
    """Expectations by their Great Expectations names, for the data as it came and as it goes into training.

    Among the arguments, `severity: warn` has a failure shown where `fail`, the default, stops the run.
    """

    raw: list[dict[str, dict[str, Any]]] = []
    ready: list[dict[str, dict[str, Any]]] = []
    drift: Drift | None = Drift()

    @field_validator("raw", "ready")
    @classmethod
    def known(cls, declared: list[dict[str, dict[str, Any]]]) -> list[dict[str, dict[str, Any]]]:
        names = list_expectation_names()
        said = []
        for item in declared:
            if len(item) != 1:
                raise ValueError(
                    "each expectation is one name with its arguments, as in {expect_column_values_to_not_be_null: {column: text}}"
                )
            name, arguments = next(iter(item.items()))
            if name not in names:
                raise ValueError(
                    f"{name!r} is not an expectation of Great Expectations{suggest_nearest(name, names)}"
                )
            if arguments.get("severity", "fail") not in ("fail", "warn"):
                raise ValueError(
                    f"{name}: severity: {arguments['severity']!r} is not allowed; fail stops the run, warn only shows it"
                )
            said.append(
                (name, {key: value for key, value in arguments.items() if key != "severity"})
            )
            if said.count(said[-1]) > 1:
                raise ValueError(f"{name} is given twice with the same arguments: remove one")
        return declared


@cache
def list_expectation_names() -> frozenset[str]:
    """The expectations that Great Expectations offers, read from its list of them: importing it takes seconds."""
    core = importlib.metadata.distribution("great_expectations").locate_file(
        "great_expectations/expectations/core/__init__.py"
    )
    return frozenset(
        re.findall(
            r"^from \.(expect_\w+) import",
            Path(str(core)).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    )
