"""The reports of the stages that pass rows on: every row that comes in stays or is rejected."""

from pydantic import Field

from tasks.contracts.base import Contract


class StageReport(Contract):
    """What `clean`, `label` and `split` report alike; each adds fields of its own."""

    rows_in: int = Field(description="Rows that came into the stage.")
    rows: int = Field(description="Rows that the stage passes on.")
    rejects: int = Field(description="Rows that the stage wrote to its rejects.")
    by_rule: dict[str, int] = Field(description="Rejected rows by the rule that rejected them.")
    warnings: list[str] = Field(
        default_factory=list, description="What people should know, as it was printed."
    )
