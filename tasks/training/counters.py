"""The numbers of a training run: where it stands, and the loss of a step."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from tasks.contracts.epoch_record import EpochRecord, History


@dataclass
class Counters:
    """Where a run stands, beside its tensors; a checkpoint holds it."""

    step: int = 0
    position: int = 0  # steps done in this epoch
    epoch: int = 0
    loss_sum: float = 0.0  # of this epoch
    weight_sum: float = 0.0  # what to divide it by
    best: float = -math.inf  # the metric that chooses, negated if lower is better
    epochs_without_improvement: int = 0
    plateau_factor: float = 1.0  # what the schedule `plateau` has left of the learning rate
    n_microbatches: int = 1  # in how many parts a batch is computed
    gpu_mib: int = 0  # the peak of GPU memory, also before the run was cut off
    history: History = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        values = dataclasses.asdict(self)
        values["history"] = [record.flat() for record in self.history]
        if not math.isfinite(self.best):
            values["best"] = None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Counters":
        """Read what `to_json` returned."""
        counters = cls(**values)
        if values["best"] is None:
            counters.best = -math.inf
        counters.history = [EpochRecord.read(record) for record in values["history"]]
        return counters


@dataclass(frozen=True)
class StepLoss:
    """The loss of a step, summed over its rows or tokens, and what to divide it by."""

    total: float
    weight: float

    @property
    def mean(self) -> float:
        """The loss per row or token; 0 if there are none."""
        return self.total / self.weight if self.weight else 0.0
