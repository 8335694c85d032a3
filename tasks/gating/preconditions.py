"""Preconditions."""

from pathlib import Path

import pyarrow as pa

from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import StageError
from tasks.storage import files, hashing


def require_passed_checks(folder: Path) -> None:
    """Refuse data that the checks did not let pass, or did not see."""
    for suite in ("raw", "ready"):
        passed = folder / "checks" / suite / "passed.json"
        if not passed.is_file():
            raise StageError(
                f"gate: {passed} does not exist, so the check {suite} did not pass: run `dvc repro`, which says what failed."
            )
    seen = hashing.hash_json(
        [hashing.sha256(folder / "split" / f"{side}.parquet") for side in ("train", "val", "test")]
    )
    if files.read_json(passed).get("snapshot") != seen:
        raise StageError(
            f"gate: the split is not the one that {passed} is about: run `dvc repro`, which checks it."
        )


def verify_evaluation_inputs(
    evaluation: Evaluation, predictions: pa.Table, test: pa.Table, folder: Path
) -> None:
    """Refuse to judge anything but the evaluation of this model on this test split."""
    if evaluation.test_sha256 != hashing.sha256(folder / "split" / "test.parquet") or predictions[
        "id"
    ].to_pylist() != sorted(test["id"].to_pylist()):
        raise StageError(
            "gate: the test split changed since the evaluation: run `dvc repro`, which evaluates again."
        )
    if evaluation.model_sha256 != hashing.hash_folder(folder / "model"):
        raise StageError(
            "gate: the model's files are not those that were evaluated: run `dvc repro`, which evaluates again."
        )
