"""How far a stage is, read from its lines and shown in Prefect as a bar."""

import contextlib
import re
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

STEP_PATTERN = re.compile(r"\bstep (\d+)/(\d+)\b")
TRIAL_PATTERN = re.compile(r"^trial (\d+)/(\d+)(:?)")


class ProgressArtifact:
    """The progress artifact of one stage; there is none until a line tells of progress. It never goes back."""

    def __init__(self, key: str) -> None:
        self.key = key.replace("_", "-").replace("@", "-")  # all that Prefect allows
        self.percent = -1
        self.done, self.all = 0, 1  # trials of a search, each of which has steps of its own
        self.artifact: Any = None

    def update_from_line(self, line: str) -> None:
        if (percent := self.read(line)) is not None and percent > self.percent:
            self.percent = percent
            with contextlib.suppress(
                Exception
            ):  # a server that is away for a moment must not end a training
                if self.artifact is None:
                    self.artifact = create_progress_artifact(
                        percent, key=self.key, description=line
                    )
                else:
                    update_progress_artifact(self.artifact, percent, description=line)

    def read(self, line: str) -> int | None:
        """The percentage that a line tells of, if it does."""
        if trial := TRIAL_PATTERN.search(line):
            number, self.all = int(trial[1]), int(trial[2])
            self.done = number - 1 if trial[3] else number  # with a colon it begins
            return 100 * self.done // self.all
        if step := STEP_PATTERN.search(line):
            return int(100 * (self.done + int(step[1]) / max(1, int(step[2]))) / self.all)
        return None
