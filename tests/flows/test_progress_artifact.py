"""How far a stage is, as Prefect shows it."""

import pytest

from flows import progress_artifact
from flows.progress_artifact import Progress, ProgressArtifact, compute_percent


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        ({}, None),
        ({"step": (45, 180)}, 25),
        ({"trial": (1, 4)}, 25),
        ({"trial": (1, 4), "step": (50, 100)}, 37),
        ({"trial": (2, 4)}, 50),
    ],
)
def test_the_steps_of_a_trial_are_a_part_of_the_search(
    progress: Progress, percent: int | None
) -> None:
    assert compute_percent(progress) == percent


def test_the_bar_is_created_once_and_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is lost meanwhile does not end the stage."""
    shown: list[tuple[str, float, str]] = []

    def create(percent: float, key: str, description: str) -> str:
        shown.append((key, percent, description))
        return "id"

    def update(artifact: str, percent: float, description: str) -> None:
        shown.append((artifact, percent, description))
        raise ConnectionError

    monkeypatch.setattr(progress_artifact, "create_progress_artifact", create)
    monkeypatch.setattr(progress_artifact, "update_progress_artifact", update)
    bar = ProgressArtifact("check_ready@xor")
    bar.update({})
    for done in (1, 5, 2, 6):
        bar.update({"step": (done, 10)})
    assert shown == [
        ("check-ready-xor", 10, "step 1/10"),
        ("id", 50, "step 5/10"),
        ("id", 60, "step 6/10"),
    ]
