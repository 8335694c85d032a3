"""The suites: what stops a run, what is only shown, and what DVC keeps of a check."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tasks.core.errors import ConfigError, StageError
from tasks.recipe.resolved import ResolvedRecipe
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tests.checks.snapshots import (
    DRIFT_FAILS,
    check,
    check_folder,
    describe_partition,
    make_snapshot,
    read_check_recipe,
)
from tests.checks.test_drift import count_accepted_rows
from tests.conftest import ROOT

NULLS = make_snapshot(10, text=["a", None, "c", "d", None, "f", "g", "h", "i", "j"])
NOT_NULL = "expect_column_values_to_not_be_null"


def test_a_warning_is_shown_and_does_not_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    section = f"{{raw: [{NOT_NULL}: {{column: text, severity: warn}}]}}"
    result = check(tmp_path, section, NULLS)
    warning = f"check raw: {NOT_NULL}(column=text): 2 unexpected values, such as 'null'."
    assert capsys.readouterr().out == f"warning: {warning}\n"
    assert (result.success, result.warnings) == (False, [warning])
    assert ">warns<" in check_folder(tmp_path).page.read_text()


def test_failing_expectations_stop_with_names_counts_and_examples(tmp_path: Path) -> None:
    in_set = "expect_column_values_to_be_in_set"
    section = f"{{raw: [{NOT_NULL}: {{column: text}}, {in_set}: {{column: id, value_set: [r0]}}]}}"
    with pytest.raises(StageError) as caught:
        check(tmp_path, section, NULLS)
    folder = check_folder(tmp_path)
    assert str(caught.value) == (
        "check raw: 2 of 2 expectations fail. "
        f"{NOT_NULL}(column=text): 2 unexpected values, such as 'null'. "
        f"{in_set}(column=id, value_set=['r0']): 9 unexpected values, "
        "such as 'r1', 'r2', 'r3', 'r4', 'r5'. "
        f"See {folder.page}, and {folder.failing} for the ids; "
        "mend the data, or change check.raw in the recipe."
    )
    assert not folder.passed.exists()


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            "{raw: [expect_column_to_exist: {column: text, severity: warning}]}",
            "expect_column_to_exist: severity: 'warning' is not allowed; fail stops the run, "
            "warn only",
        ),
        (
            "{raw: [expect_column_to_exist: {column: x}, "
            "expect_column_to_exist: {column: x, severity: warn}]}",
            "is given twice with the same arguments: remove one",
        ),
        (
            "{drift: {rows: [2.0, 0.5]}}",
            "check.drift.rows: must be the smallest and the largest multiple that is accepted",
        ),
        (
            "{drift: {severity: stop}}",
            "check.drift.severity: 'stop' is not allowed. Allowed: fail, warn.",
        ),
        ("{drift: {ps: 0.1}}", "check.drift.ps: is not a known key (did you mean psi?)"),
    ],
)
def test_mistakes_in_the_section_are_sentences(tmp_path: Path, section: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_check_recipe(tmp_path, section)
    assert sentence in str(caught.value)


def test_the_page_is_self_contained_and_shows_a_bar_for_each_column(tmp_path: Path) -> None:
    check(tmp_path, "{}", make_snapshot())
    check(tmp_path, "{}", make_snapshot(email=0.2), "v2")
    page = check_folder(tmp_path).page.read_text()
    assert page.count('class="bar"') == 4
    assert "http" not in page
    assert "<script" not in page


def test_a_duplicate_in_two_splits_stops_the_stage_whoever_wrote_the_split(here: Path) -> None:
    paths = StagePaths.of_recipe("tiny")
    ResolvedRecipe(recipe=read_check_recipe(here, "{}")).write(paths.recipe)
    rows = {
        "train": [
            ("a", "the first message of all", "yes"),
            ("b", "quite another matter than that", "no"),
        ],
        "val": [("v", "words for validation only", "yes")],
        "test": [("z", "THE FIRST message of all", "yes")],
    }
    for split, rows_of_split in rows.items():
        columns = zip(*rows_of_split, strict=True)
        table = pa.table([list(column) for column in columns], names=["id", "text", "label"])
        files.write_table(paths.split.table(split), table)
    done = subprocess.run(
        [sys.executable, "-m", "tasks.check_ready", "tiny"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert (
        "expect_equal_contents_on_one_side(): 1 unexpected values, "
        "such as a in train and z in test."
    ) in done.stderr
    assert done.stderr.endswith("for the ids; mend the data.\n")  # the recipe could not allow it
    folder = paths.checks("ready")
    failing = pq.read_table(folder.failing).to_pylist()
    assert {(row["id"], row["value"]) for row in failing} == {("z", "a in train and z in test")}
    assert not folder.passed.exists()


Completed = subprocess.CompletedProcess[str]


@pytest.fixture
def dvc(here: Path) -> Callable[..., Completed]:
    """DVC in a folder that has the stage check_raw as dvc.yaml has it, alone."""
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["check_raw"]
    modules = [path for path in stage["deps"] if path.startswith("tasks/")]
    stage["deps"] = ["data/tiny/raw", *modules]
    del stage["matrix"]
    (here / "tasks").symlink_to(ROOT / "tasks")
    text = yaml.safe_dump({"stages": {"check_raw": stage}})
    (here / "dvc.yaml").write_text(text.replace("${item.recipe}", "tiny"))
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "DVC_NO_ANALYTICS": "1",
        "HOME": str(here),
        "DVC_SITE_CACHE_DIR": str(here / "site"),
    }

    def run(*words: str) -> Completed:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)

    assert run("init", "--no-scm").returncode == 0
    return run


def write_raw(paths: StagePaths, table: pa.Table) -> None:
    """Write a snapshot as ingest does."""
    files.write_table(paths.raw.path / "part.parquet", table)
    describe_partition("part.parquet", table.num_rows).write(paths.raw.snapshot)


def test_dvc_keeps_what_was_accepted_through_a_failure(
    here: Path, dvc: Callable[..., Completed]
) -> None:
    paths = StagePaths.of_recipe("tiny")
    ResolvedRecipe(recipe=read_check_recipe(here, DRIFT_FAILS)).write(paths.recipe)
    folder = paths.checks("raw")
    lock = here / "dvc.lock"

    write_raw(paths, make_snapshot())
    done = dvc("repro", "check_raw")
    assert done.returncode == 0, done.stderr
    first_accepted = folder.accepted.read_bytes()
    first_lock = lock.read_bytes()

    write_raw(paths, make_snapshot(email=0.1))
    refused = dvc("repro", "check_raw")
    assert refused.returncode != 0
    assert "'email': 71.6% → " in refused.stderr
    assert folder.accepted.read_bytes() == first_accepted
    assert lock.read_bytes() == first_lock
    assert json.loads(folder.result.read_text())["success"] is False
    assert not folder.passed.exists()

    write_raw(paths, make_snapshot(1100, seed=3))
    done = dvc("repro", "check_raw")
    assert done.returncode == 0, done.stderr
    assert count_accepted_rows(folder.accepted) == (1100, 1000)

    # A second run does nothing, and a forced one gives the same bytes.
    hashes = hashing.hash_folder(folder.path)
    last_lock = lock.read_bytes()
    assert "Running stage" not in dvc("repro", "check_raw").stdout
    assert "Running stage" in dvc("repro", "--force", "check_raw").stdout
    assert hashing.hash_folder(folder.path) == hashes
    assert lock.read_bytes() == last_lock
