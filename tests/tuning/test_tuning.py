"""Tuning: the search, how it goes on after a kill, what it refuses, and that training uses what it found."""

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
from tasks.storage.layout import StagePaths
from tasks.tuning import study, trial
from tests.conftest import ROOT

RECIPE = """name: xor
modality: tabular
ingest: {kind: files, path: xor.csv}
columns: {features: [a, b]}
train: {hidden_sizes: [8], dropout: 0.0, epochs: 6, batch_size: 8, patience: 9, learning_rate: 0.0001, metric: accuracy}
tune: {trials: 10, space: {learning_rate: {low: 1e-4, high: 1e-1, log: true}, hidden_sizes: [[8], [16, 8]], augment.shift: {low: 0, high: 2}}, metric: log_loss}
gate: [{rule: floor, metric: accuracy, bound: 1.0}]
"""


def recipe(here: Path, *changes: tuple[str, str]) -> Recipe:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (here / "recipe.yaml").write_text(text)
    return read_recipe(here / "recipe.yaml")


def split(here: Path) -> Path:
    """Noisy points of the exclusive or; no test split, so that reading it would fail."""
    rng = np.random.default_rng(0)
    for side, rows in (("train", 96), ("val", 48)):
        bits = rng.integers(0, 2, (rows, 2))
        a, b = (bits + rng.normal(0, 0.15, bits.shape)).T
        names = [f"{side}{row:03d}" for row in range(rows)]
        labels = ["yes" if x != y else "no" for x, y in bits]
        files.write_table(
            here / "split" / f"{side}.parquet",
            pa.table({"id": names, "a": a, "b": b, "label": labels}),
        )
    return here / "split"


def run(made: Recipe, here: Path) -> dict[str, bytes]:
    split(here)
    tune.run(made, StagePaths(here), here / "studies")
    return {path.name: path.read_bytes() for path in sorted((here / "tuned").iterdir())}


def rows(told: dict[str, bytes]) -> list[list[str]]:
    return [line.split(",") for line in told["trials.csv"].decode().splitlines()[1:]]


def test_a_search_finds_better_values_than_the_recipe_has_and_its_first_trial_has_these(
    here: Path,
) -> None:
    told = run(recipe(here), here)
    done = study.load_trials(next((here / "studies").iterdir()))
    assert [
        done[0]["values"][name] for name in ("learning_rate", "hidden_sizes", "augment.shift")
    ] == [
        0.0001,
        [8],
        0,
    ]
    best = json.loads(told["best.json"])
    found = min(
        (record for record in done if record["state"] == "done"), key=lambda record: record["value"]
    )
    assert best == found["values"]
    assert found["value"] < done[0]["value"] - 0.1
    assert len(rows(told)) == 10
    assert {record["state"] for record in done} == {"done", "pruned"}
    assert all(len(record["course"]) == 6 for record in done[: study.N_STARTUP_TRIALS])
    assert all(2 <= len(record["course"]) < 6 for record in done if record["state"] == "pruned")


def test_a_search_that_was_killed_ends_as_one_that_was_not(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    made = recipe(
        here,
        ("epochs: 6", "epochs: 6, checkpoint_seconds: 0.0"),
        ("batch_size: 8", "batch_size: 48"),
        ("trials: 10", "trials: 8"),
    )
    whole = run(made, here)
    whole_records = study.load_trials(next((here / "studies").iterdir()))
    shutil.rmtree(here / "studies")
    original, calls = trial.compute_curve, []

    def dying(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) in (4, 29, 50):
            raise Killed
        return original(*arguments)

    monkeypatch.setattr(trial, "compute_curve", dying)
    for _ in range(3):
        with pytest.raises(Killed):
            run(made, here)
    assert run(made, here) == whole
    for one, other in zip(
        whole_records, study.load_trials(next((here / "studies").iterdir())), strict=True
    ):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_more_trials_are_added_to_those_that_are_done_and_another_recipe_begins_anew(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = run(recipe(here, ("trials: 10", "trials: 3")), here)
    capsys.readouterr()
    more = run(recipe(here, ("trials: 10", "trials: 5")), here)
    assert rows(more)[:3] == rows(few)
    assert "trial 4/5: " in (said := capsys.readouterr().err)
    assert "trial 3/5" not in said
    run(recipe(here, ("trials: 10", "trials: 1"), ("patience: 9", "patience: 8")), here)
    assert len(list((here / "studies").iterdir())) == 1
    assert len(study.load_trials(next((here / "studies").iterdir()))) == 1


def test_the_same_values_are_not_trained_twice(here: Path) -> None:
    space = "{learning_rate: {low: 1e-4, high: 1e-1, log: true}, hidden_sizes: [[8], [16, 8]], augment.shift: {low: 0, high: 2}}"
    told = run(recipe(here, (space, "{epochs: [2, 3]}"), ("trials: 10", "trials: 7")), here)
    done = study.load_trials(next((here / "studies").iterdir()))
    assert len({row[2] for row in rows(told)}) == 2
    assert [record["note"] for record in done].count("") == 2


def test_a_trial_that_diverges_is_recorded_and_the_search_goes_on(here: Path) -> None:
    space = "{learning_rate: {low: 1e-4, high: 1e-1, log: true}, hidden_sizes: [[8], [16, 8]], augment.shift: {low: 0, high: 2}}"
    told = run(
        recipe(here, (space, "{weight_decay: [0.0, 1e30]}"), ("trials: 10", "trials: 4")), here
    )
    assert {(row[1], row[3]) for row in rows(told)} == {("done", "0.0"), ("failed", "1e+30")}
    assert json.loads(told["best.json"]) == {"weight_decay": 0.0}
    assert b"training diverged" in told["index.html"]
    with pytest.raises(
        StageError, match="none of 2 trials could be trained; the first: training diverged"
    ):
        run(recipe(here, (space, "{weight_decay: [1e30]}"), ("trials: 10", "trials: 2")), here)


def test_cross_validation_takes_the_folds_of_the_split_and_never_the_validation_rows(
    here: Path,
) -> None:
    made = recipe(here, ("tune: {trials: 10", "split: {folds: 3}\ntune: {trials: 2"))
    source = split(here)
    table = files.read_table(source / "train.parquet")
    files.write_table(
        source / "train.parquet",
        table.append_column(
            "fold", pa.array([row % 3 for row in range(table.num_rows)], pa.int32())
        ),
    )
    parts = trial.load_train_val_pairs(made, source)
    assert [set(val["fold"].to_pylist()) for _, val in parts] == [{0}, {1}, {2}]
    assert all(
        not set(train["id"].to_pylist()) & set(val["id"].to_pylist()) for train, val in parts
    )
    (source / "val.parquet").unlink()
    values: list[list[float]] = []
    found = trial.train_and_score(
        made, source, here / "trial", lambda course: values.append(course)
    )
    assert [len(course) for course in values] == [1, 2]
    assert 0.3 < found < 1.5


def test_a_fold_without_rows_is_refused(here: Path) -> None:
    made = recipe(here, ("tune: {trials: 10", "split: {folds: 4}\ntune: {trials: 2"))
    source = split(here)
    table = files.read_table(source / "train.parquet")
    fold = pa.array([row % 3 for row in range(table.num_rows)], pa.int32())
    files.write_table(source / "train.parquet", table.append_column("fold", fold))
    with pytest.raises(StageError, match="split.folds: fold 3 of 4 has none of the"):
        trial.load_train_val_pairs(made, source)


def test_no_trial_begins_after_the_time_is_over(here: Path) -> None:
    assert len(rows(run(recipe(here, ("trials: 10", "trials: 10, seconds: 1e-9")), here))) == 1


def test_without_the_section_nothing_is_searched_and_nothing_heavy_imported(here: Path) -> None:
    made = recipe(here, (RECIPE[RECIPE.index("tune:") : RECIPE.index("gate:")], ""))
    told = run(made, here)
    assert (told["best.json"], told["trials.csv"]) == (b"{}\n", b"trial,state,value\n")
    assert b"no <code>tune</code> section" in told["index.html"]
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
            "tune.space: hiden_sizes is not a key of train that can be tuned (did you mean hidden_sizes?); those are a",
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
            "hidden_sizes: 8 is neither a list of values nor an interval such as {low: 1e-4, high: 1e-3, log: true}.",
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
    tuned = (
        recipe(here)
        .with_tuned_values({"learning_rate": 0.01, "hidden_sizes": [4], "augment.shift": 2})
        .train
    )
    assert (tuned.learning_rate, tuned.hidden_sizes, tuned.augment.shift, tuned.epochs) == (
        0.01,
        [4],
        2,
        6,
    )
