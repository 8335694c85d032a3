"""Epoch record."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

VAL_PREFIX = (
    "val_"  # before the name of a metric of the validation split, where a record is a flat object
)


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to."""

    epoch: int  # from 1
    step: int  # steps done in all epochs so far
    loss: float  # the mean over the rows of the epoch
    val: Mapping[str, float]  # by metric; nothing depends on its order
    gpu_mib: int = 0  # the most memory of the GPU that tensors have held, 0 without one

    def flat(self) -> dict[str, Any]:
        """The record as one flat object, as it is written to files."""
        metrics = {f"{VAL_PREFIX}{name}": value for name, value in self.val.items()}
        gpu = {"gpu_mib": self.gpu_mib} if self.gpu_mib else {}
        return {"epoch": self.epoch, "step": self.step, "loss": self.loss, **metrics, **gpu}

    @classmethod
    def read(cls, flat: Mapping[str, Any]) -> Self:
        """Read what `flat` gives."""
        val = {
            key.removeprefix(VAL_PREFIX): value
            for key, value in flat.items()
            if key.startswith(VAL_PREFIX)
        }
        return cls(flat["epoch"], flat["step"], flat["loss"], val, flat.get("gpu_mib", 0))


History = list[EpochRecord]


def format_history(history: History) -> str:
    """Return the content of history.jsonl: a JSON object a line, its keys sorted."""
    return "".join(json.dumps(record.flat(), sort_keys=True) + "\n" for record in history)


EpochCallback = Callable[[History], None]
