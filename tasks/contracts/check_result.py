"""checks/<suite>/result.json: whether the data may be used, one result for each expectation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field, JsonValue

from tasks.contracts.base import Contract, Record

Severity = Literal["fail", "warn"]


class CheckResult(Record):
    """Whether one expectation holds."""

    expectation: str
    arguments: dict[str, JsonValue]
    severity: Severity = Field(description="What a failure does: stop the run, or warn.")
    success: bool
    source: Literal["recipe", "split", "drift"] = Field(description="Who expects it.")
    unexpected: int | None = Field(None, description="Unexpected values, if they are counted.")
    observed: bool | int | float | str | None = Field(None, description="The measured value.")
    examples: list[str] = Field([], description="A few of the unexpected values.")
    ids: int | None = Field(
        None,
        description="Rows in failing.parquet, which the suite counts; null if no single rows "
        "are at fault.",
    )


class ColumnDriftResult(CheckResult):
    """Whether the distribution of one column stayed."""

    kind: Literal["category", "number", "length"] = Field(description="What was binned.")
    chance: float = Field(description="The index that chance alone stays below.")


class SuiteResult(Contract):
    """The results of all expectations on one set of rows."""

    WRITTEN_BY: ClassVar[str] = "check_raw` or `check_ready"

    rows: int
    success: bool
    results: list[ColumnDriftResult | CheckResult]
    warnings: list[str]
    notes: list[str] = Field(description="What was not checked, and why.")


@dataclass(frozen=True)
class CheckOutcome:
    """A result with the rows that fail the expectation."""

    result: CheckResult
    failing: pa.Table | None = None  # columns id, column, value; None if no single rows fail
