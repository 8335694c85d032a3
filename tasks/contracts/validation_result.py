"""What became of a version when a fresh process loaded it from the store and asked it."""

from typing import Literal

from pydantic import Field

from tasks.contracts.base import Contract


class ValidationResult(Contract):
    """Whether a version can be served, and what it needs. What was not reached is None."""

    verdict: Literal["pass", "fail"]
    reason: str
    requests: int | None = Field(default=None, description="Golden requests that were asked.")
    max_deviation: float | None = Field(
        default=None, description="Of an answer from the one that the evaluation recorded."
    )
    latency_ms: float | None = Field(
        default=None, description="95th percentile of the time for one row, in milliseconds."
    )
    memory_mib: int | None = Field(
        default=None, description="The most memory that the process held, in MiB."
    )

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a result cannot be read."""
        return "run the promotion again, which validates the version anew"
