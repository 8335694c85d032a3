"""What must hold before the gate judges: the data passed, and the evaluation is up to date."""

import pyarrow as pa

from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import StageError
from tasks.storage import files, hashing
from tasks.storage.layout import SUITES, StagePaths


def require_passed_checks(paths: StagePaths) -> None:
    """Refuse data that the checks did not let pass, or did not see.

    Raises:
        StageError: A suite did not pass, or it checked another split.
    """
    for suite in SUITES:
        passed = paths.checks(suite).passed
        if not passed.is_file():
            raise StageError(
                f"gate: {passed} does not exist, so the check {suite} did not pass: run "
                "`dvc repro`, which says what failed."
            )
    ready = paths.checks("ready").passed
    snapshot = hashing.hash_json([hashing.sha256(path) for path in paths.split.tables()])
    if files.read_json(ready).get("snapshot") != snapshot:
        raise StageError(
            f"gate: the split is not the one that {ready} is about: run `dvc repro`, which checks "
            "it."
        )


def verify_evaluation_inputs(
    evaluation: Evaluation, predictions: pa.Table, test: pa.Table, paths: StagePaths
) -> None:
    """Refuse to judge anything but the evaluation of this model on this test split.

    Args:
        evaluation: The evaluation.
        predictions: Its predictions, sorted by id.
        test: The test split.
        paths: Where the model and the test split lie.

    Raises:
        StageError: The model or the test split changed since the evaluation.
    """
    is_same_file = evaluation.test_sha256 == hashing.sha256(paths.split.test)
    is_same_rows = predictions["id"].to_pylist() == sorted(test["id"].to_pylist())
    if not is_same_file or not is_same_rows:
        raise StageError(
            "gate: the test split changed since the evaluation: run `dvc repro`, which evaluates "
            "again."
        )
    if evaluation.model_sha256 != hashing.hash_folder(paths.model.path):
        raise StageError(
            "gate: the model's files are not those that were evaluated: run `dvc repro`, which "
            "evaluates again."
        )
