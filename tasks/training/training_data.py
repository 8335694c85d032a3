"""The examples that a model is trained on and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.modalities.base import Example
from tasks.problems.base import Targets


@dataclass(frozen=True)
class TrainingData:
    """Encoded examples with their targets.

    Attributes:
        examples: What to train on.
        targets: What to learn from each example, `[examples, ...]`.
        val_examples: What each epoch is measured on.
        val_targets: The same for these, `[val_examples, ...]`.
        ids: What messages call the training rows; without them rows are numbered.
    """

    examples: list[Example]
    targets: Targets
    val_examples: list[Example]
    val_targets: Targets
    ids: Sequence[str] = ()

    @classmethod
    def without_targets(
        cls, examples: list[Example], val_examples: list[Example], ids: Sequence[str] = ()
    ) -> "TrainingData":
        """Build the data of a training whose targets are part of the examples themselves."""
        return cls(
            examples,
            np.zeros(len(examples), np.int64),
            val_examples,
            np.zeros(len(val_examples), np.int64),
            ids,
        )

    def row_name(self, index: int) -> str:
        """Name a training row in a message."""
        return self.ids[index] if self.ids else f"number {index + 1}"
