"""A line of progress: redrawn in place on a terminal, every few seconds in a log."""

import sys
import time
from typing import Any

REPORT_SECONDS = 5.0


class Progress:
    def __init__(self, steps: int, epochs: int, step: int, shown: bool) -> None:
        """`step` is where the run starts; a process that is not `shown` says nothing."""
        self.steps, self.epochs, self.first, self.quiet = steps, epochs, step, not shown
        self.begun = self.told = time.monotonic()
        self.rows = 0
        self.terminal = sys.stderr.isatty()

    def step(self, epoch: int, step: int, loss: float, rows: int) -> None:
        self.rows += rows
        now = time.monotonic()
        if self.quiet or now - self.told < (0.2 if self.terminal else REPORT_SECONDS):
            return
        self.told = now
        spent = now - self.begun
        left = spent / (step - self.first) * (self.steps - step)
        line = f"epoch {epoch + 1}/{self.epochs}  step {step}/{self.steps}  loss {loss:.3f}  {self.rows / spent:,.0f} rows/s  {left:.0f} s left"
        print(f"\r{line}   " if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def epoch(self, record: dict[str, Any]) -> None:
        # after epoch and step come the loss, the metric that chooses, and many others
        text = "  ".join(f"{name} {value:.4f}" for name, value in list(record.items())[2:6])
        self.say(("\r" if self.terminal else "") + f"epoch {record['epoch']}/{self.epochs} done  {text}")

    def say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)
