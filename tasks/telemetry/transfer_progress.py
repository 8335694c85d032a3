"""The progress of an upload or download, shown if it takes long."""

import sys
import threading
import time

from tasks.telemetry.progress import ProgressLine

MEGABYTE = 1_000_000


class TransferProgress:
    """How much of a transfer is done. Several threads may count.

    Attributes:
        action: What happens, such as `fetching digits 0123`.
        n_bytes: Bytes of the whole transfer.
    """

    def __init__(self, action: str, n_bytes: int) -> None:
        """Start the clock."""
        self.action = action
        self.n_bytes = n_bytes
        self.n_done = 0
        self.start_time = time.monotonic()
        self.line = ProgressLine()
        self.lock = threading.Lock()
        self.is_shown = False

    def add(self, count: int) -> None:
        """Count bytes, and show a line if the last one is old enough."""
        with self.lock:
            self.n_done += count
            if self.line.is_due():
                self.is_shown = True
                self.line.show(self.describe(time.monotonic() - self.start_time))

    def describe(self, seconds: float) -> str:
        """Return the line."""
        rate = max(self.n_done / seconds, 1)
        seconds_left = max(self.n_bytes - self.n_done, 0) / rate
        return "  ".join(
            [
                self.action,
                f"{self.n_done / MEGABYTE:,.0f}/{self.n_bytes / MEGABYTE:,.0f} MB",
                f"{rate / MEGABYTE:,.1f} MB/s",
                f"{seconds_left:.0f} s left",
            ]
        )

    def end(self) -> None:
        """End the line on a terminal."""
        if self.is_shown and self.line.is_terminal:
            print(file=sys.stderr, flush=True)
