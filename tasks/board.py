"""TensorBoard, for those who set MILLRACE_TENSORBOARD to a folder: the curves of history.jsonl, epoch by epoch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.step import Mistake

FOLDER = "MILLRACE_TENSORBOARD"


def curves(name: str) -> Callable[[list[dict[str, Any]]], None]:
    """What the training loop is to call after each epoch."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return lambda history: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise Mistake(f"{FOLDER} is set, but tensorboard is not installed: run `pip install -e '.[tensorboard]' -c constraints.txt`, or unset it.") from None
    writer = SummaryWriter(Path(folder) / name)  # type: ignore[no-untyped-call]

    def write(history: list[dict[str, Any]]) -> None:
        for record in history:  # one that is written again replaces itself
            for key in sorted(record.keys() - {"epoch", "step"}):
                writer.add_scalar(key, record[key], record["epoch"])  # type: ignore[no-untyped-call]
        writer.flush()  # type: ignore[no-untyped-call]

    return write
