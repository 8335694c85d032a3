"""How far a stage is, shown in Prefect as a bar."""

import contextlib
from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

Progress = Mapping[str, tuple[int, int]]  # steps done and steps in all, by unit: `trial`, `step`


class ProgressArtifact:
    """The progress artifact of one stage.

    It is created with the first progress that is reported, and never goes back.
    """

    def __init__(self, address: str) -> None:
        """Show nothing yet.

        Args:
            address: The stage, such as `train@digits`.
        """
        self.key = address.replace("_", "-").replace("@", "-")  # Prefect allows no other marks
        self.percent = -1
        self.artifact: Any = None

    def update(self, progress: Progress) -> None:
        """Show how far the stage is, if it is further than before."""
        percent = compute_percent(progress)
        if percent is None or percent <= self.percent:
            return
        self.percent = percent
        with contextlib.suppress(Exception):  # a server that is away must not end a training
            self.show(describe_progress(progress))

    def show(self, description: str) -> None:
        """Create the artifact, or update it."""
        if self.artifact is None:
            self.artifact = create_progress_artifact(
                self.percent, key=self.key, description=description
            )
        else:
            update_progress_artifact(self.artifact, self.percent, description=description)


def compute_percent(progress: Progress) -> int | None:
    """Return how many percent are done; None if nothing was reported.

    The steps are those of the running trial, so they are a part of the search.
    """
    if not progress:
        return None
    trials_done, n_trials = progress.get("trial", (0, 1))
    steps_done, n_steps = progress.get("step", (0, 1))
    return int(100 * (trials_done + steps_done / max(1, n_steps)) / max(1, n_trials))


def describe_progress(progress: Progress) -> str:
    """Return the progress as text, such as `trial 3/20, step 45/180`."""
    return ", ".join(f"{unit} {done}/{total}" for unit, (done, total) in progress.items())
