"""A line of progress: redrawn in place on a terminal, every few seconds in a log."""

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.contracts.epoch_record import History


REPORT_SECONDS = 5.0


class Progress:
    def __init__(
        self,
        steps: int,
        epochs: int,
        step: int,
        shown: bool,
        unit: str,
        metric: str,
        history: "History",
    ) -> None:
        """`step` is where the run starts, `unit` what is counted, `metric` what chooses the weights, `history` the records of the epochs done.

        A process that is not `shown` says nothing.
        """
        self.steps, self.epochs, self.first, self.quiet = steps, epochs, step, not shown
        self.unit, self.metric, self.history = unit, metric, history
        self.begun = self.told = time.monotonic()
        self.counted = 0
        self.terminal = sys.stderr.isatty()

    def step(self, epoch: int, step: int, loss: float, count: int) -> None:
        self.counted += count
        now = time.monotonic()
        if self.quiet or now - self.told < (0.2 if self.terminal else REPORT_SECONDS):
            return
        self.told = now
        spent = now - self.begun
        left = spent / (step - self.first) * (self.steps - step)
        rate = f"{self.counted / spent:,.0f} {self.unit}/s"
        line = f"epoch {epoch + 1}/{self.epochs}  step {step}/{self.steps}  loss {loss:#.4g}{self.measured(1)}  {rate}  {left:.0f} s left"
        print(
            f"\r{line}   " if self.terminal else line,
            end="" if self.terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def epoch(self) -> None:
        record = self.history[-1]
        self.say(
            ("\r" if self.terminal else "")
            + f"epoch {record.epoch}/{self.epochs} done  loss {record.loss:#.4g}{self.measured(3)}"
        )

    def measured(self, most: int) -> str:
        """Return what the last epoch measured: first the metric that chooses the weights, then some others."""
        if not self.history:
            return ""
        val = self.history[-1].val
        names = [self.metric, *(name for name in val if name != self.metric)]
        return "".join(f"  val_{name} {val[name]:.4f}" for name in names[:most])

    def say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)
