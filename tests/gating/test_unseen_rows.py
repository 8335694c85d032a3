"""Test rows that the champion was trained on, or that are like such rows, are left out."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks.contracts.gate_verdict import ComparisonResult
from tasks.core.errors import StageError
from tasks.gating import unseen_rows, verdict
from tasks.rows import rejected_rows
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.training import export
from tests.gating.helpers import Trained, copy_as_champion

TEXTS = [
    "please send me the invoice of last month again",
    "my password does not work any more since today",
    "where is my parcel",
]


def test_rows_that_the_champion_learnt_and_rows_like_them_are_left_out(
    trained: Trained, tmp_path: Path
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    test = files.read_table(paths.split.test)
    ids = test["id"].to_pylist()
    # The split rejected this row, because it is like a test row.
    twin = test.slice(5, 1).set_column(0, "id", pa.array(["gone"]))
    rejects = rejected_rows.build_rejects(twin, "split", "near-duplicate on another side")
    files.write_table(paths.split.rejects, rejects)
    export.write_trained_on(champion.model.trained_on, [*ids[:3], "gone"])
    unseen = unseen_rows.find_unseen_rows(test, paths, champion.model, recipe.modality)
    left_out = [name for name, is_unseen in zip(ids, unseen, strict=True) if not is_unseen]
    assert left_out == [*ids[:3], ids[5]]
    judged = verdict.judge_model(recipe, paths, champion)
    check = judged.checks[1]
    assert isinstance(check, ComparisonResult)
    assert (judged.excluded_rows, check.rows) == (4, 116)
    sentence = (
        "4 test rows were left out, because the champion was trained on them or on rows like them."
    )
    assert sentence in check.reason


@pytest.mark.parametrize(
    ("trained_on", "unseen"),
    [
        ("old", [False, True, True]),
        ("b", [True, False, True]),
        ("other", [True, True, True]),
    ],
)
def test_near_duplicates_of_rows_that_cleaning_dropped_are_left_out(
    tmp_path: Path, trained_on: str, unseen: list[bool]
) -> None:
    paths = StagePaths(tmp_path)
    champion = ModelFolder(tmp_path / "champion")
    test = pa.table({"id": ["a", "b", "c"], "text": TEXTS})
    dropped = pa.table(
        {"id": ["old"], "text": ["Please send me the invoice of last  month again!"]}
    )
    rejects = rejected_rows.build_rejects(dropped, "clean", "near_duplicates")
    files.write_table(paths.clean.rejects / "part.parquet", rejects)
    export.write_trained_on(champion.trained_on, [trained_on])
    assert unseen_rows.find_unseen_rows(test, paths, champion, "text").tolist() == unseen


@pytest.mark.parametrize("kept", [0, 5])
def test_a_champion_that_learnt_almost_all_test_rows_is_inconclusive(
    trained: Trained, tmp_path: Path, kept: int
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    ids = files.read_table(paths.split.test)["id"].to_pylist()
    export.write_trained_on(champion.model.trained_on, ids[kept:])
    judged = verdict.judge_model(recipe, paths, champion)
    assert judged.verdict == "inconclusive"
    assert judged.disagreements is None
    assert judged.reason.startswith(
        f"{kept} test rows are too few to compare with the champion: at least 16 are needed. "
        f"{120 - kept} test rows were left out"
    )


def test_a_champion_that_does_not_name_its_training_rows_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    champion.model.trained_on.unlink()
    with pytest.raises(StageError, match="does not say on which rows it was trained"):
        verdict.judge_model(recipe, paths, champion)
