"""Tuning: the search, how it goes on after a kill, what it refuses, and what training uses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import tune
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import SplitFolder, StagePaths
from tasks.tuning import study, trial
from tasks.tuning.study import TrialRecord
from tests.conftest import ROOT

SPACE = """space:
    learning_rate: {low: 1e-4, high: 1e-1, log: true}
    hidden_sizes: [[8], [16, 8]]
    augment.shift: {low: 0, high: 2}
"""
TUNE = f"""tune:
  trials: 10
  metric: log_loss
  {SPACE}"""
RECIPE = f"""name: xor
modality: tabular
ingest: {{kind: files, path: xor.csv}}
columns: {{features: [a, b]}}
train:
  hidden_sizes: [8]
  dropout: 0.0
  epochs: 6
  batch_size: 8
  patience: 9
  learning_rate: 0.0001
  metric: accuracy
{TUNE}gate: [{{rule: floor, metric: accuracy, bound: 1.0}}]
"""


def recipe(here: Path, *changes: tuple[str, str]) -> Recipe:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (here / "recipe.yaml").write_text(text)
    return read_recipe(here / "recipe.yaml")


def fold_recipe(here: Path, n_folds: int) -> Recipe:
    start = f"split: {{folds: {n_folds}}}\ntune:\n  trials: 2"
    return recipe(here, ("tune:\n  trials: 10", start))


def write_split(folder: SplitFolder, n_folds: int = 0) -> None:
    """Write noisy points of the exclusive or; no test split, so that reading it would fail."""
    rng = np.random.default_rng(0)
    for name, n_rows in (("train", 96), ("val", 48)):
        bits = rng.integers(0, 2, (n_rows, 2))
        a, b = (bits + rng.normal(0, 0.15, bits.shape)).T
        ids = [f"{name}{row:03d}" for row in range(n_rows)]
        labels = ["yes" if x != y else "no" for x, y in bits]
        table = pa.table({"id": ids, "a": a, "b": b, "label": labels})
        if n_folds:
            fold = pa.array([row % n_folds for row in range(n_rows)], pa.int32())
            table = table.append_column("fold", fold)
        files.write_table(folder.table(name), table)


def run(config: Recipe, here: Path) -> dict[str, bytes]:
    """Tune, and return the files that this writes."""
    paths = StagePaths(here)
    write_split(paths.split)
    tune.run(config, paths, here / "studies")
    return {path.name: path.read_bytes() for path in sorted(paths.tuned.path.iterdir())}


def read_trials(here: Path) -> list[TrialRecord]:
    [folder] = (here / "studies").iterdir()
    return study.load_trials(folder)


def list_rows(outputs: dict[str, bytes]) -> list[list[str]]:
    lines = outputs["trials.csv"].decode().splitlines()
    return [line.split(",") for line in lines[1:]]


def test_a_search_finds_better_values_than_the_recipe_has(here: Path) -> None:
    outputs = run(recipe(here), here)
    trials = read_trials(here)
    own = {"learning_rate": 0.0001, "hidden_sizes": [8], "augment.shift": 0}
    assert trials[0].values == own
    complete = [record for record in trials if record.state == "done"]
    best = min(complete, key=lambda record: record.value or 0.0)
    assert json.loads(outputs["best.json"]) == best.values
    assert best.value is not None
    assert trials[0].value is not None
    assert best.value < trials[0].value - 0.1
    assert len(list_rows(outputs)) == 10
    assert {record.state for record in trials} == {"done", "pruned"}
    assert all(len(record.curve) == 6 for record in trials[: study.N_STARTUP_TRIALS])
    assert all(2 <= len(record.curve) < 6 for record in trials if record.state == "pruned")


class Killed(BaseException):
    """The process ends here."""


def test_a_search_that_was_killed_ends_as_one_that_was_not(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(
        here,
        ("epochs: 6", "epochs: 6\n  checkpoint_seconds: 0.0"),
        ("batch_size: 8", "batch_size: 48"),
        ("trials: 10", "trials: 8"),
    )
    whole = run(config, here)
    whole_trials = read_trials(here)
    shutil.rmtree(here / "studies")
    original = trial.compute_curve
    calls = []

    def dying(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) in (4, 29, 50):
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(trial, "compute_curve", dying)
    for _ in range(3):
        with pytest.raises(Killed):
            run(config, here)
    assert run(config, here) == whole
    for record, resumed in zip(whole_trials, read_trials(here), strict=True):
        assert resumed == record.model_copy(update={"seconds": resumed.seconds})


def test_more_trials_are_added_to_those_that_are_done_and_another_recipe_begins_anew(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = run(recipe(here, ("trials: 10", "trials: 3")), here)
    capsys.readouterr()
    extended = run(recipe(here, ("trials: 10", "trials: 5")), here)
    assert list_rows(extended)[:3] == list_rows(few)
    lines = capsys.readouterr().err
    assert "trial 4/5: " in lines
    assert "trial 3/5" not in lines
    run(recipe(here, ("trials: 10", "trials: 1"), ("patience: 9", "patience: 8")), here)
    assert len(read_trials(here)) == 1


def test_the_same_values_are_not_trained_twice(here: Path) -> None:
    space = "space: {epochs: [2, 3]}\n"
    outputs = run(recipe(here, (SPACE, space), ("trials: 10", "trials: 7")), here)
    assert len({row[2] for row in list_rows(outputs)}) == 2
    assert [record.note for record in read_trials(here)].count("") == 2


def test_a_trial_that_diverges_is_recorded_and_the_search_goes_on(here: Path) -> None:
    # Each step multiplies the weights by 1 - 0.9 * 1000.
    large_steps = [("learning_rate: 0.0001", "learning_rate: 0.9"), ("epochs: 6", "epochs: 40")]
    space = "space: {weight_decay: [0.0, 1000.0]}\n"
    config = recipe(here, (SPACE, space), ("trials: 10", "trials: 4"), *large_steps)
    outputs = run(config, here)
    states = {(row[1], row[3]) for row in list_rows(outputs)}
    assert states == {("done", "0.0"), ("failed", "1000.0")}
    assert json.loads(outputs["best.json"]) == {"weight_decay": 0.0}
    assert b"training diverged" in outputs["index.html"]
    space = "space: {weight_decay: [1000.0]}\n"
    message = "none of 2 trials could be trained; the first: training diverged"
    with pytest.raises(StageError, match=message):
        run(recipe(here, (SPACE, space), ("trials: 10", "trials: 2"), *large_steps), here)


def test_cross_validation_takes_the_folds_of_the_split_and_never_the_validation_rows(
    here: Path,
) -> None:
    config = fold_recipe(here, 3)
    split = StagePaths(here).split
    write_split(split, n_folds=3)
    pairs = trial.load_train_val_pairs(config, split)
    assert [set(val["fold"].to_pylist()) for _, val in pairs] == [{0}, {1}, {2}]
    for train, val in pairs:
        assert not set(train["id"].to_pylist()) & set(val["id"].to_pylist())
    split.val.unlink()
    curves: list[list[float]] = []
    score = trial.train_and_score(config, split, here / "trial", curves.append)
    assert [len(curve) for curve in curves] == [1, 2]
    assert 0.3 < score < 1.5


def test_a_fold_without_rows_is_refused(here: Path) -> None:
    config = fold_recipe(here, 4)
    split = StagePaths(here).split
    write_split(split, n_folds=3)
    with pytest.raises(StageError, match=r"split\.folds: fold 3 of 4 has none of the"):
        trial.load_train_val_pairs(config, split)


def test_no_trial_begins_after_the_time_is_over(here: Path) -> None:
    outputs = run(recipe(here, ("trials: 10", "trials: 10\n  seconds: 1e-9")), here)
    assert len(list_rows(outputs)) == 1


def test_without_the_section_nothing_is_searched_and_nothing_heavy_imported(here: Path) -> None:
    outputs = run(recipe(here, (TUNE, "")), here)
    assert outputs["best.json"] == b"{}\n"
    assert outputs["trials.csv"] == b"trial,state,value\n"
    assert b"no <code>tune</code> section" in outputs["index.html"]
    assert not (here / "studies").exists()
    code = (
        "import sys, tasks.tune; sys.exit(bool({'torch', 'optuna', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_page_stands_alone_and_shows_every_trial(here: Path) -> None:
    page = run(recipe(here), here)["index.html"].decode()
    assert "http" not in page
    assert page.count("<svg") == 4  # the order, and one for each of three values
    assert page.count("<circle") == 40
    assert page.count('class="best"') == 4


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "hidden_sizes: [[8]",
            "hiden_sizes: [[8]",
            "tune.space: hiden_sizes is not a key of train that can be tuned (did you mean "
            "hidden_sizes?); those are a",
        ),
        (
            "high: 1e-1",
            "high: 2",
            "tune.space: learning_rate.high: 2: input should be less than 1.",
        ),
        (
            "high: 1e-1",
            "high: 1e-5",
            "learning_rate: low is 0.0001, which must be less than high, 1e-05.",
        ),
        (
            "[16, 8]]",
            "[16, 0]]",
            "tune.space: hidden_sizes[1]: [16, 0]: input should be greater than or equal to 1.",
        ),
        (
            "[[8], [16, 8]]",
            "8",
            "hidden_sizes: 8 is neither a list of values nor an interval such as {low: 1e-4, "
            "high: 1e-3, log: true}.",
        ),
        (
            "augment.shift: {low: 0",
            "seed: {low: 0",
            "tune.space: seed is not a key of train that can be tuned",
        ),
        (
            "metric: log_loss",
            "metric: los",
            "tune.metric: 'los' is not allowed (did you mean log_loss?)",
        ),
    ],
)
def test_a_space_that_makes_no_sense_is_refused_before_anything_runs(
    here: Path, old: str, new: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe(here, (old, new))
    assert sentence in str(caught.value)


def test_training_uses_the_values_that_were_found(here: Path) -> None:
    values = {"learning_rate": 0.01, "hidden_sizes": [4], "augment.shift": 2}
    tuned = recipe(here).with_tuned_values(values).train
    assert tuned.learning_rate == 0.01
    assert tuned.hidden_sizes == [4]
    assert tuned.augment.shift == 2
    assert tuned.epochs == 6
