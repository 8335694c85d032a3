"""labelled/report.json: where the labels come from, and what each labelling function is worth."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.contracts.base import Record
from tasks.contracts.stage_report import StageReport


class AnswerCounts(Record):
    """The labels that people gave."""

    total: int = Field(description="Rows that people labelled.")
    used: int = Field(description="Of these, rows that are in the data.")


class LabelErrors(Record):
    """The labels that look wrong."""

    count: int
    action: Literal["keep", "flag", "drop", "relabel"]


class FunctionReport(Record):
    """A labelling function and its votes."""

    kind: str
    trusted: bool
    definition: str = Field(description="Its pattern, words, examples, file or folder.")
    label: str | None = Field(description="The label that it votes for, if it is always the same.")
    votes: int
    overlaps: int = Field(description="Votes for rows that another function votes for too.")
    conflicts: int = Field(description="Overlaps in rows for which functions disagree.")
    gold: int = Field(description="Votes for rows whose label is known without the label model.")
    correct: int = Field(description="Gold votes for the known label.")
    coverage: float = Field(description="The fraction of all rows that it votes for.")
    estimated_accuracy: float | None = Field(description="By the label model, if it has one.")
    weight: float | None = Field(description="Of its votes; null for a trusted function.")


class LabelReport(StageReport):
    """What the stage `label` did."""

    WRITTEN_BY: ClassVar[str] = "label"

    review: int = Field(description="Rows in the review queue.")
    classes: dict[str, int] = Field(description="Labelled rows by class.")
    sources: dict[str, int] = Field(description="Labelled rows by where their label comes from.")
    answers: AnswerCounts
    errors: LabelErrors
    model: str = Field(description="The label model.")
    functions: list[FunctionReport]
