"""The model in production, as the gate needs it."""

from dataclasses import dataclass

from tasks.storage.layout import ModelFolder


@dataclass(frozen=True)
class Champion:
    """The model in production, which a new one is compared with."""

    model: ModelFolder
    version: str
    comparison_number: int = 1  # which comparison with it this is; they share one error rate
