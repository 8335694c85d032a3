"""clean/report.json: what each cleaning rule changed and rejected, with examples."""

from typing import ClassVar

from pydantic import Field

from tasks.contracts.base import Record
from tasks.contracts.stage_report import StageReport


class ChangedCell(Record):
    """An example of a cell that a rule changed."""

    id: str | None
    column: str
    before: str | None
    after: str | None


class RejectedRow(Record):
    """An example of a row that a rule rejected."""

    id: str | None
    detail: str | None = Field(description="Why the row was rejected.")


class RuleReport(Record):
    """What one rule did."""

    rule: str
    changed: int = Field(description="Rows of which the rule changed at least one cell.")
    rejected: int
    examples: list[ChangedCell | RejectedRow]


class CleaningReport(StageReport):
    """What the stage `clean` did."""

    WRITTEN_BY: ClassVar[str] = "clean"

    rules: list[RuleReport] = Field(description="In the order in which they were applied.")
    files: list[str] = Field(description="Files below clean/ that hold the rows that stay.")
