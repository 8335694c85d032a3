"""A line of progress: redrawn in place on a terminal, printed every few seconds in a log."""

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.core import stage

if TYPE_CHECKING:
    from tasks.contracts.epoch_record import History

REPORT_SECONDS = 5.0
REDRAW_SECONDS = 0.2  # on a terminal
MAX_EPOCH_METRICS = 3


class ProgressLine:
    """A line for people, which replaces the last one on a terminal."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self.last_shown = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last line is old enough; if so, the next one becomes due later."""
        now = time.monotonic()
        if now - self.last_shown < (REDRAW_SECONDS if self.is_terminal else REPORT_SECONDS):
            return False
        self.last_shown = now
        return True

    def show(self, line: str) -> None:
        """Redraw the line on a terminal; elsewhere print it below the last one."""
        if self.is_terminal:
            print(f"\r{line}   ", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


@dataclass
class Progress:
    """The progress of one training run, for people (a line) and for the run (its status file).

    Attributes:
        n_steps: Optimizer steps of the whole run.
        n_epochs: Epochs of the whole run.
        first_step: The step at which this process starts; above 0 after a resume.
        is_shown: Whether this process prints; one of several does.
        unit: What is counted per second, such as `rows` or `tokens`.
        metric: The metric that chooses the weights.
        history: The records of the epochs done; the training loop appends to it.
    """

    n_steps: int
    n_epochs: int
    first_step: int
    is_shown: bool
    unit: str
    metric: str
    history: "History"

    def __post_init__(self) -> None:
        """Start the clock."""
        self.start_time = time.monotonic()
        self.n_units = 0
        self.line = ProgressLine()

    def step(self, epoch: int, step: int, loss: float, count: int) -> None:
        """Count a step, and print a line if the last one is old enough.

        Args:
            epoch: The running epoch, from 0.
            step: Steps done in all epochs.
            loss: The mean loss of this step.
            count: Units in this step.
        """
        self.n_units += count
        if not self.is_shown or not self.line.is_due():
            return
        stage.report_progress("step", step, self.n_steps)
        seconds = time.monotonic() - self.start_time
        self.line.show(self.describe_step(epoch, step, loss, seconds))

    def describe_step(self, epoch: int, step: int, loss: float, seconds: float) -> str:
        """Return the line of a step."""
        seconds_left = seconds / (step - self.first_step) * (self.n_steps - step)
        return "  ".join(
            [
                f"epoch {epoch + 1}/{self.n_epochs}",
                f"step {step}/{self.n_steps}",
                f"loss {loss:#.4g}{self.format_metrics(1)}",
                f"{self.n_units / seconds:,.0f} {self.unit}/s",
                f"{seconds_left:.0f} s left",
            ]
        )

    def epoch(self) -> None:
        """Print what the last epoch came to."""
        record = self.history[-1]
        metrics = self.format_metrics(MAX_EPOCH_METRICS)
        line = f"epoch {record.epoch}/{self.n_epochs} done  loss {record.loss:#.4g}{metrics}"
        self.print_line(f"\r{line}" if self.line.is_terminal else line)

    def format_metrics(self, count: int) -> str:
        """Return up to `count` metrics of the last epoch, the one that chooses weights first."""
        if not self.history:
            return ""
        val = self.history[-1].val
        names = [self.metric, *(name for name in val if name != self.metric)]
        return "".join(f"  val_{name} {val[name]:.4f}" for name in names[:count])

    def print_line(self, line: str) -> None:
        """Print a line, if this process is the one that prints."""
        if self.is_shown:
            print(line, file=sys.stderr, flush=True)
