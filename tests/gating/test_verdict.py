"""The gate on a trained model: its verdict, its refusals, and that it fails closed.

Each thing that it needs is taken away in turn.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tasks import gate
from tasks.contracts.gate_verdict import DisagreeingRows, Disagreements, GateVerdict
from tasks.core.errors import StageError
from tasks.gating import preconditions, promotion_gate, verdict
from tasks.gating.champion import Champion
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths
from tests import tiny
from tests.gating.helpers import FLOOR, Trained, copy_as_champion, with_gate


def test_the_champion_itself_is_promoted_and_the_verdict_repeats(
    trained: Trained, tmp_path: Path
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    champion = dataclasses.replace(champion, comparison_number=2)
    preconditions.require_passed_checks(paths)
    judged = verdict.judge_model(recipe, paths, champion)
    assert judged == verdict.judge_model(recipe, paths, champion)
    assert (judged.verdict, judged.champion) == ("promote", "v1")
    assert (judged.comparison_number, judged.excluded_rows) == (2, 0)
    nothing = DisagreeingRows(rows=0, examples=[])
    assert judged.disagreements == Disagreements(
        only_model_right=nothing, only_champion_right=nothing
    )


def test_the_stage_writes_a_verdict_without_a_champion(trained: Trained, tmp_path: Path) -> None:
    recipe, paths, _ = copy_as_champion(trained, tmp_path)
    gate.run(recipe, paths)
    written = GateVerdict.read(paths.gate)
    assert (written.verdict, written.champion, written.rows) == ("promote", None, 120)
    assert [check.outcome for check in written.checks] == ["pass", "skipped"]


def test_the_command_of_a_promotion_names_the_champion() -> None:
    champion = Champion(ModelFolder(Path("champion")), "v1", 3)
    command = promotion_gate.command("tiny", champion, Path("verdict.json"))
    assert command[:2] == ["-m", "tasks.gating.promotion_gate"]
    arguments = promotion_gate.parse_arguments(command[2:])
    assert (arguments.recipe, arguments.output) == ("tiny", Path("verdict.json"))
    assert (arguments.champion, arguments.version) == (Path("champion"), "v1")
    assert arguments.comparison_number == 3


def damage(path: str, paths: StagePaths, champion: Champion) -> None:
    """Damage one file that the gate needs."""
    if path.startswith("champion/"):
        (champion.model.path / path.removeprefix("champion/")).write_bytes(b"broken")
    elif path == "split/test.parquet":
        files.write_table(paths.split.test, tiny.table("tabular", 700, 119))
    elif path == "model/model.onnx":
        paths.model.onnx.write_bytes(paths.model.onnx.read_bytes() + b"0")
    else:
        (paths.root / path).unlink()


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (
            "checks/raw/passed.json",
            "checks/raw/passed.json does not exist, so the check raw did not pass: run `dvc repro`",
        ),
        (
            "checks/ready/passed.json",
            "checks/ready/passed.json does not exist, so the check ready did not pass",
        ),
        ("split/test.parquet", "the split is not the one that .*ready/passed.json is about"),
        ("evaluation/metrics.json", "metrics.json does not exist: run the stage that writes it"),
        (
            "evaluation/predictions.parquet",
            "predictions.parquet does not exist: run the stage that writes it",
        ),
        (
            "model/model.onnx",
            "the model's files are not those that were evaluated: run `dvc repro`",
        ),
        ("champion/model.onnx", "champion/model.onnx cannot be loaded as an ONNX model"),
        ("champion/model.json", "champion/model.json is not valid JSON"),
        ("champion/trained_on.parquet", "trained_on.parquet is not a readable Parquet file"),
    ],
)
def test_there_is_no_verdict_without_one_of_these_files(
    trained: Trained, tmp_path: Path, path: str, sentence: str
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    damage(path, paths, champion)
    with pytest.raises(StageError, match=sentence):
        preconditions.require_passed_checks(paths)
        verdict.judge_model(recipe, paths, champion)


def test_a_test_split_that_changed_after_the_evaluation_is_refused(
    trained: Trained, tmp_path: Path
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    damage("split/test.parquet", paths, champion)
    with pytest.raises(StageError, match="the test split changed since the evaluation"):
        verdict.judge_model(recipe, paths, None)


def test_a_metric_that_the_evaluation_lost_promotes_nothing(
    trained: Trained, tmp_path: Path
) -> None:
    recipe, paths, _ = copy_as_champion(trained, tmp_path)
    content = files.read_json(paths.evaluation.metrics)
    assert verdict.judge_model(recipe, paths, None).verdict == "promote"
    lacking = {**content, "metrics": without(content["metrics"], "accuracy")}
    files.write_json(paths.evaluation.metrics, lacking)
    assert verdict.judge_model(recipe, paths, None).verdict != "promote"


@pytest.mark.parametrize("broken", [None, {"value": None}])
def test_a_metric_that_is_no_interval_is_refused(
    trained: Trained, tmp_path: Path, broken: dict[str, None] | None
) -> None:
    recipe, paths, _ = copy_as_champion(trained, tmp_path)
    content = files.read_json(paths.evaluation.metrics)
    metrics = {**content["metrics"], "accuracy": broken}
    files.write_json(paths.evaluation.metrics, {**content, "metrics": metrics})
    with pytest.raises(StageError, match="is not a valid Evaluation"):
        verdict.judge_model(recipe, paths, None)


@pytest.mark.parametrize("missing", ["rows", "model_sha256", "test_sha256"])
def test_an_evaluation_that_does_not_name_its_rows_or_files_is_refused(
    trained: Trained, tmp_path: Path, missing: str
) -> None:
    recipe, paths, _ = copy_as_champion(trained, tmp_path)
    content = files.read_json(paths.evaluation.metrics)
    files.write_json(paths.evaluation.metrics, without(content, missing))
    with pytest.raises(StageError, match=f"is not a valid Evaluation.*{missing}"):
        verdict.judge_model(recipe, paths, None)


def without(metrics: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if name != key}


def test_a_column_to_compare_by_that_is_missing_is_a_sentence(
    trained: Trained, tmp_path: Path
) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    recipe = with_gate(recipe, FLOOR, {"rule": "champion", "metric": "accuracy", "by": "lable"})
    sentence = r"gate: by: the data has no column 'lable' \(did you mean label\?\)"
    with pytest.raises(StageError, match=sentence):
        verdict.judge_model(recipe, paths, champion)


def test_a_champion_is_compared_on_each_value_of_a_column(trained: Trained, tmp_path: Path) -> None:
    recipe, paths, champion = copy_as_champion(trained, tmp_path)
    rule = {"rule": "champion", "metric": "accuracy", "margin": 0.3, "by": "label"}
    check = verdict.judge_model(with_gate(recipe, FLOOR, rule), paths, champion).checks[1]
    assert check.outcome == "pass"
    assert check.reason.endswith("It is the worst of 2.")
