"""What pre-training achieved: pretrained/report.json."""

from typing import ClassVar

from pydantic import Field, JsonValue

from tasks.contracts.base import Contract, Record


class PretrainLoss(Record):
    """The loss on the rows of val after the best epoch."""

    log_loss: float = Field(description="The mean over the tokens to predict.")
    perplexity: float
    epoch: int


class PretrainReport(Contract):
    """The rows that a base was trained on, its size and its loss."""

    WRITTEN_BY: ClassVar[str] = "pretrain"

    rows_in: int = Field(description="Rows that went into label.")
    rows: int = Field(description="Rows that the base was trained on.")
    held_out: int = Field(description="Rows in val or test.")
    like_held_out: int = Field(description="Other rows that are like one in val or test.")
    parameters: int
    vocab_size: int
    val: PretrainLoss | None = Field(description="None if there was no epoch.")
    pretrain: dict[str, JsonValue] = Field(
        description="The recipe's section `pretrain`, as resolved."
    )
