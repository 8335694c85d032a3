"""TensorBoard, for those who set MILLRACE_TENSORBOARD to a folder: the curves of history.jsonl, epoch by epoch."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.core.errors import ConfigError

if TYPE_CHECKING:
    from tasks.contracts.epoch_record import EpochCallback, History


FOLDER_VARIABLE = "MILLRACE_TENSORBOARD"


def build_curve_writer(name: str) -> "EpochCallback":
    """What the training loop is to call after each epoch."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return lambda history: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise ConfigError(
            f"{FOLDER_VARIABLE} is set, but tensorboard is not installed: run `pip install -e '.[tensorboard]' -c constraints.txt`, or unset it."
        ) from None
    writer = SummaryWriter(Path(folder) / name)  # type: ignore[no-untyped-call]

    def write(history: "History") -> None:
        for record in history:  # one that is written again replaces itself
            numbers = record.flat()
            for key in sorted(numbers.keys() - {"epoch", "step"}):
                writer.add_scalar(key, numbers[key], record.epoch)  # type: ignore[no-untyped-call]
        writer.flush()  # type: ignore[no-untyped-call]

    return write
