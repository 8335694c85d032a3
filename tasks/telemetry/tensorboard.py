"""Training curves for TensorBoard, if MILLRACE_TENSORBOARD names a folder."""

from typing import TYPE_CHECKING

from tasks.core.errors import ConfigError
from tasks.core.settings import read_settings, variable_name

if TYPE_CHECKING:
    from tasks.contracts.epoch_record import EpochCallback, History


def build_curve_writer(recipe: str) -> "EpochCallback":
    """Return a callback that writes the history's numbers, epoch by epoch.

    Raises:
        ConfigError: A folder is set, but tensorboard is not installed.
    """
    folder = read_settings().tensorboard
    if folder is None:
        return write_nothing
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise ConfigError(
            f"{variable_name('tensorboard')} is set, but tensorboard is not installed: run "
            "`pip install -e '.[tensorboard]' -c constraints.txt`, or unset it."
        ) from None
    writer = SummaryWriter(folder / recipe)  # type: ignore[no-untyped-call]

    def write(history: "History") -> None:
        for record in history:  # a point that is written again replaces itself
            numbers = record.flat()
            for key in sorted(numbers.keys() - {"epoch", "step"}):
                writer.add_scalar(key, numbers[key], record.epoch)  # type: ignore[no-untyped-call]
        writer.flush()  # type: ignore[no-untyped-call]

    return write


def write_nothing(history: "History") -> None:
    """Write no curves, since no folder is set."""
