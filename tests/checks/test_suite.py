"""Checks: severities, ids of failing rows, drift against the last accepted snapshot, and the proof that a split has nothing on two sides."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.checks import drift, expectations, suite
from tasks.checks.drift import Bins
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.check import list_expectation_names
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.rows import leakage
from tasks.storage import files, hashing
from tests.conftest import ROOT

RECIPE = """name: tiny
modality: text
ingest: {kind: files, path: source.csv}
columns: {id: id}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""


def recipe(folder: Path, section: str) -> Recipe:
    (folder / "recipe.yaml").write_text(f"{RECIPE}check: {section}\n")
    return read_recipe(folder / "recipe.yaml")


def snapshot(
    count: int = 1000, seed: int = 0, email: float = 0.7, price: float = 10.0, **columns: list[Any]
) -> pa.Table:
    r = np.random.default_rng(seed)
    table = {
        "id": [f"r{n}" for n in range(count)],
        "text": ["word " * n for n in r.integers(1, 30, count)],
        "label": r.choice(["yes", "no"], count).tolist(),
        "channel": r.choice(["email", "chat"], count, p=[email, 1 - email]).tolist(),
        "price": [f"{value:.2f}" for value in r.normal(price, 2, count)],
    }
    return pa.table(table | columns)


def checked(folder: Path, section: str, table: pa.Table, name: str = "v1") -> dict[str, Any]:
    suite.run_suite(recipe(folder, section), "raw", table, name, folder / "checks")
    return outcome(folder)


def outcome(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = files.read_json(folder / "checks" / "result.json")
    return found


NULLS = snapshot(10, text=["a", None, "c", "d", None, "f", "g", "h", "i", "j"])


def test_a_failing_expectation_stops_with_its_name_count_and_examples_and_a_warning_is_shown_and_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = checked(
        tmp_path,
        "{raw: [expect_column_values_to_not_be_null: {column: text, severity: warn}]}",
        NULLS,
    )
    told = "check raw: expect_column_values_to_not_be_null(column=text): 2 unexpected values, such as 'null'."
    assert capsys.readouterr().out == f"warning: {told}\n"
    assert (found["success"], found["warnings"]) == (False, [told])
    assert ">warns<" in (tmp_path / "checks" / "index.html").read_text()
    with pytest.raises(StageError) as caught:
        checked(
            tmp_path,
            "{raw: [expect_column_values_to_not_be_null: {column: text}, expect_column_values_to_be_in_set: {column: id, value_set: [r0]}]}",
            NULLS,
        )
    assert str(caught.value) == (
        "check raw: 2 of 2 expectations fail. expect_column_values_to_not_be_null(column=text): 2 unexpected values, such as 'null'. "
        "expect_column_values_to_be_in_set(column=id, value_set=['r0']): 9 unexpected values, such as 'r1', 'r2', 'r3', 'r4', 'r5'. "
        f"See {tmp_path}/checks/index.html, and {tmp_path}/checks/failing.parquet for the ids; mend the data, or change check.raw in the recipe."
    )
    assert not (tmp_path / "checks" / "passed.json").exists()


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (
            "{raw: [expect_column_to_exist: {column: text, severity: warning}]}",
            "expect_column_to_exist: severity: 'warning' is not allowed; fail stops the run, warn only",
        ),
        (
            "{raw: [expect_column_to_exist: {column: x}, expect_column_to_exist: {column: x, severity: warn}]}",
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
        recipe(tmp_path, section)
    assert sentence in str(caught.value)


ROWS = pd.DataFrame(
    {
        "id": list("abcdef"),
        "a": ["x", "y", None, "zz", "x", "2024-01-01"],
        "b": ["x", "y", "q", "zz", "w", "v"],
        "n": [1.0, 2.0, 3.0, 4.0, None, 100.0],
        "m": [1, 2, 3, 4, 5, 6],
    }
)
BY_ROW: dict[str, tuple[dict[str, Any], str]] = {
    "expect_column_values_to_not_be_null": ({"column": "a"}, "c"),
    "expect_column_values_to_be_null": ({"column": "a"}, "abdef"),
    "expect_column_values_to_be_in_set": ({"column": "a", "value_set": ["x"]}, "bdf"),
    "expect_column_values_to_not_be_in_set": ({"column": "a", "value_set": ["x"]}, "ae"),
    "expect_column_values_to_be_between": ({"column": "n", "min_value": 2, "max_value": 5}, "af"),
    "expect_column_value_lengths_to_be_between": (
        {"column": "a", "min_value": 2, "max_value": 5},
        "abef",
    ),
    "expect_column_value_lengths_to_equal": ({"column": "a", "value": 1}, "df"),
    "expect_column_values_to_match_regex": ({"column": "a", "regex": "^x"}, "bdf"),
    "expect_column_values_to_not_match_regex": ({"column": "a", "regex": "^x"}, "ae"),
    "expect_column_values_to_match_regex_list": ({"column": "a", "regex_list": ["^x"]}, "bdf"),
    "expect_column_values_to_be_unique": ({"column": "a"}, "ae"),
    "expect_column_values_to_match_strftime_format": (
        {"column": "a", "strftime_format": "%Y-%m-%d"},
        "abde",
    ),
    "expect_column_value_z_scores_to_be_less_than": (
        {"column": "n", "threshold": 1, "double_sided": True},
        "f",
    ),
    "expect_column_values_to_be_decreasing": ({"column": "m"}, "bcdef"),
    "expect_column_pair_values_to_be_equal": ({"column_A": "a", "column_B": "b"}, "cef"),
    "expect_select_column_values_to_be_unique_within_record": ({"column_list": ["a", "b"]}, "abd"),
}


def test_each_failing_expectation_names_the_rows_that_break_it_and_no_others() -> None:
    declared = [{name: arguments} for name, (arguments, _) in BY_ROW.items()]
    results = expectations.validate_rows(
        pa.Table.from_pandas(ROWS.set_index(pd.Index([9] * len(ROWS)))), declared, "raw"
    )  # whatever pandas' own index was
    for result, (name, (_, expected)) in zip(results, BY_ROW.items(), strict=True):
        assert result["expectation"] == name
        assert "".join(result["failing"]["id"].to_pylist()) == expected
        assert result["unexpected"] == result["failing"].num_rows


def test_every_expectation_that_a_recipe_may_name_is_there_and_no_other() -> None:
    import great_expectations as gx

    offered = {name.lower() for name in dir(gx.expectations) if name.startswith("Expect")} - {
        "expectation"
    }
    assert {name.replace("_", "") for name in list_expectation_names()} == offered


def test_what_was_observed_is_shown_also_where_it_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(
        StageError,
        match=r"expect_column_most_common_value_to_be_in_set\(column=channel, value_set=\['fax'\]\): observed \['email'\]\.",
    ):
        checked(
            tmp_path,
            "{raw: [expect_column_most_common_value_to_be_in_set: {column: channel, value_set: [fax]}]}",
            snapshot(),
        )


def test_a_column_that_is_not_there_can_be_a_warning(tmp_path: Path) -> None:
    found = checked(
        tmp_path, "{raw: [expect_column_to_exist: {column: region, severity: warn}]}", snapshot()
    )
    assert found["warnings"] == [
        "check raw: expect_column_to_exist(column=region): it does not hold."
    ]


def test_numbers_expected_in_a_column_of_texts_end_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        checked(
            tmp_path,
            "{raw: [expect_column_values_to_be_between: {column: price, min_value: 0}]}",
            snapshot(),
        )
    assert (
        "could not be evaluated: Column values, min_value, and max_value must either be None or of the same type. The column 'price' holds text, "
        in str(caught.value)
    )
    assert str(caught.value).endswith(
        "compare numbers and dates in check.ready, typed by the cleaning rule `types`."
    )


def test_an_expectation_about_no_single_rows_gives_none(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="observed 1000"):
        checked(tmp_path, "{raw: [expect_table_row_count_to_equal: {value: 7}]}", snapshot())
    assert outcome(tmp_path)["results"][0]["ids"] is None
    assert pq.read_table(tmp_path / "checks" / "failing.parquet").num_rows == 0
    assert "of no single rows" in (tmp_path / "checks" / "index.html").read_text()


def test_failing_rows_are_in_a_file_with_the_number_of_the_expectation_id_column_and_value(
    tmp_path: Path,
) -> None:
    section = "{raw: [expect_column_values_to_be_unique: {column: id}, expect_compound_columns_to_be_unique: {column_list: [label, channel]}]}"
    with pytest.raises(StageError):
        checked(tmp_path, section, snapshot(3, label=["a", "a", "b"], channel=["x", "x", "y"]))
    name = "expect_compound_columns_to_be_unique"
    wanted = [
        {"number": 1, "expectation": name, "id": row, "column": "label, channel", "value": "a, x"}
        for row in ("r0", "r1")
    ]
    assert pq.read_table(tmp_path / "checks" / "failing.parquet").to_pylist() == wanted


FAILS = "{drift: {severity: fail}}"


def test_the_first_snapshot_is_accepted_and_the_result_says_that_there_was_none_before(
    tmp_path: Path,
) -> None:
    found = checked(tmp_path, FAILS, snapshot())
    assert found["notes"] == [
        "There is no earlier accepted snapshot to compare with: this one is the first."
    ]
    assert found["results"] == []


def test_another_sample_of_the_same_source_does_not_drift_even_if_small(tmp_path: Path) -> None:
    checked(tmp_path, FAILS, snapshot(60))
    for seed in range(1, 21):
        assert checked(
            tmp_path, FAILS, snapshot(60, seed=seed, label=["yes", "no"] * 30), f"v{seed}"
        )["success"]


@pytest.mark.parametrize(
    ("changed", "failing", "example"),
    [
        ({"count": 400}, "expect_row_count_ratio_to_be_between", "1000 rows → 400"),
        ({"email": 0.2}, "expect_column_psi_to_be_at_most", "'email': 71.6% → 22.6%"),
        ({"price": 20.0}, "expect_column_psi_to_be_at_most", "over 12."),
        ({"text": ["long " * 900] * 1000}, "expect_column_psi_to_be_at_most", "length over"),
        ({"label": ["yes", *["no"] * 999]}, "expect_class_shares_to_change_by_at_most", "→ 99.9%"),
        (
            {"label": ["yes", "no", "maybe", "no"] * 250},
            "expect_class_shares_to_change_by_at_most",
            "maybe: 0.0% → 25.0%",
        ),
        ({"extra": ["x"] * 1000}, "expect_columns_and_types_to_stay", "extra: none → string"),
        ({"channel": [1] * 1000}, "expect_columns_and_types_to_stay", "channel: string → int64"),
    ],
)
def test_what_drifts_is_named_and_stops_where_the_recipe_says_so(
    tmp_path: Path, changed: dict[str, Any], failing: str, example: str
) -> None:
    checked(tmp_path, FAILS, snapshot())
    with pytest.raises(StageError) as caught:
        checked(tmp_path, FAILS, snapshot(**changed), "v2")
    found = {
        result["expectation"]: result
        for result in outcome(tmp_path)["results"]
        if not result["success"]
    }
    assert example in " ".join(found[failing]["examples"])
    assert f"delete {tmp_path}/checks/accepted.json: it is then compared with nothing." in str(
        caught.value
    )
    assert checked(tmp_path, "{}", snapshot(**changed), "v2")[
        "warnings"
    ]  # by default it is only shown


def test_answers_of_people_are_no_drift(tmp_path: Path) -> None:
    checked(
        tmp_path, FAILS, snapshot(label_source=["functions"] * 1000, label_confidence=[0.7] * 1000)
    )
    assert checked(
        tmp_path,
        FAILS,
        snapshot(label_source=["people"] * 1000, label_confidence=[1.0] * 1000, fold=[1] * 1000),
        "v2",
    )["success"]


@pytest.mark.parametrize(
    "section", ["{drift: null}", "{drift: {psi: null}}", "{drift: {ignore: [channel]}}"]
)
def test_a_rule_that_is_turned_off_is_not_applied(tmp_path: Path, section: str) -> None:
    checked(tmp_path, section, snapshot())
    assert checked(tmp_path, section, snapshot(email=0.2), "v2")["success"]


def test_only_an_accepted_snapshot_is_compared_with_and_checking_one_again_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    checked(tmp_path, FAILS, snapshot(), "v1")
    first = (tmp_path / "checks" / "accepted.json").read_bytes()
    with pytest.raises(StageError):
        checked(tmp_path, FAILS, snapshot(email=0.1), "v2")
    assert (tmp_path / "checks" / "accepted.json").read_bytes() == first
    assert checked(tmp_path, FAILS, snapshot(1100, seed=3), "v3")["success"]
    accepted = drift.read_accepted(tmp_path / "checks" / "accepted.json")
    assert (
        accepted
        and accepted.reference
        and (accepted.profile.rows, accepted.reference.rows) == (1100, 1000)
    )
    before = hashing.hash_folder(tmp_path / "checks")
    checked(tmp_path, FAILS, snapshot(1100, seed=3), "v3")
    assert hashing.hash_folder(tmp_path / "checks") == before


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"snapshot": "v1"}',
        '{"snapshot": "v1", "profile": {"rows": "many"}, "reference": null}',
    ],
)
def test_a_broken_profile_of_what_was_accepted_is_named_and_never_passed_over(
    tmp_path: Path, damage: str
) -> None:
    checked(tmp_path, FAILS, snapshot())
    (tmp_path / "checks" / "accepted.json").write_text(damage)
    with pytest.raises(StageError) as caught:
        checked(tmp_path, FAILS, snapshot(), "v2")
    assert (
        f"{tmp_path}/checks/accepted.json, the profile of the last accepted snapshot, is not as it was written"
        in str(caught.value)
    )
    assert f"get it back with `dvc checkout --force {tmp_path}/checks`, or delete it" in str(
        caught.value
    )


def test_the_profile_holds_no_text_and_no_value_of_a_row(tmp_path: Path) -> None:
    people = [f"Person {n}" for n in range(1000)]
    checked(tmp_path, FAILS, snapshot(text=[f"call {name}" for name in people], owner=people))
    kept = (tmp_path / "checks" / "accepted.json").read_text()
    assert "Person" not in kept and "email" not in kept
    assert '"yes"' in kept  # classes are named
    assert len(kept) < 5000


def test_any_column_has_a_profile() -> None:
    table = pa.table(
        {
            "id": ["a", "b"],
            "nothing": pa.nulls(2),
            "bytes": [b"x", None],
            "lists": [[1], [2, 3]],
            "floats": [float("nan"), float("inf")],
            "huge": ["9" * 400, "1e999"],
            "time": pa.array([0, 1], pa.timestamp("us")),
        }
    )
    found = drift.build_profile(table, "tabular")
    assert {name: sum(bins.counts) for name, bins in found.bins.items()} == dict.fromkeys(
        ["nothing", "bytes", "lists", "floats", "huge", "time"], 2
    )
    rules = read_drift()
    assert all(result["success"] for result in drift.check_drift(table, found, found, rules))


def read_drift() -> Any:
    from tasks.recipe.check import Drift

    return Drift()


def test_the_index_is_that_of_its_definition() -> None:
    def bins(*counts: int) -> Bins:
        return Bins(kind="category", edges=[], names=["a"], counts=list(counts))

    p, q = np.array([600.5, 400.5]) / 1001, np.array([300.5, 700.5]) / 1001
    value, chance = drift.compute_psi(bins(600, 400, 0), bins(300, 700, 0))
    assert value == pytest.approx(((q - p) * np.log(q / p)).sum(), abs=1e-4)
    assert chance == pytest.approx(
        10.83 * 2 / 1000, rel=0.05
    )  # the quantile of chi-square with one degree of freedom at 0.999 is 10.83
    assert drift.compute_psi(bins(10, 0, 0), bins(99, 0, 0)) == (0.0, 0.0)


def two_sides(
    train: list[tuple[str, str, str]], test: list[tuple[str, str, str]]
) -> list[dict[str, Any]]:
    def table(rows: list[tuple[str, str, str]]) -> pa.Table:
        return pa.table(
            {
                name: pa.array([row[at] for row in rows], pa.string())
                for at, name in enumerate(("id", "text", "label"))
            }
        )

    results, notes = leakage.check_leakage(
        {"train": table(train), "val": table([]), "test": table(test)}, "text"
    )
    assert notes == []
    return results


TRAIN = [("a", "the first message of all", "yes"), ("b", "quite another matter than that", "no")]


@pytest.mark.parametrize(
    ("planted", "expectation", "sentence"),
    [
        (
            ("a", "nothing like the others here", "yes"),
            "expect_ids_on_one_side",
            "a in train and a in test",
        ),
        (
            ("z", "The first  MESSAGE of all", "yes"),
            "expect_equal_contents_on_one_side",
            "a in train and z in test",
        ),
        (
            ("z", "the first message of all!", "yes"),
            "expect_near_duplicates_on_one_side",
            "a in train and z in test",
        ),
        (("z", "nothing like the others here", "maybe"), "expect_every_class_in_train", "maybe"),
    ],
)
def test_what_stands_on_two_sides_is_found_with_both_ids_and_sides(
    planted: tuple[str, str, str], expectation: str, sentence: str
) -> None:
    assert all(
        result["success"] for result in two_sides(TRAIN, [("y", "something else altogether", "no")])
    )
    found = {
        result["expectation"]: result
        for result in two_sides(TRAIN, [planted])
        if not result["success"]
    }
    assert sorted(
        {"a in train and a in test", "a in train and z in test", "maybe"}
        & set(found[expectation]["examples"])
    ) == [sentence]


def test_too_many_rows_are_compared_exactly_and_the_note_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leakage, "MAX_ROWS_FOR_NEAR_SEARCH", 1)
    table = pa.table({"id": ["a", "b"], "text": ["x", "y"], "label": ["yes", "no"]})
    results, notes = leakage.check_leakage(
        {"train": table, "val": table.slice(0, 0), "test": table.slice(0, 0)}, "text"
    )
    assert [result["expectation"] for result in results] == [
        "expect_ids_on_one_side",
        "expect_equal_contents_on_one_side",
        "expect_every_class_in_train",
    ]
    assert notes == [
        "Near-duplicates across sides were not looked for again: 2 rows are more than 1. The split has set them aside."
    ]


def test_the_proof_does_not_claim_to_have_compared_what_are_no_texts() -> None:
    table = pa.table({"id": ["a", "b"], "image": [b"x", b"y"], "label": ["yes", "no"]})
    results, notes = leakage.check_leakage(
        {"train": table, "val": table.slice(0, 0), "test": table.slice(0, 0)}, "image"
    )
    assert "expect_near_duplicates_on_one_side" not in [result["expectation"] for result in results]
    assert notes == [
        "Near-duplicates across sides are looked for among texts alone: these rows were compared by exactly what they hold."
    ]


def test_a_planted_duplicate_blocks_the_step_whoever_wrote_the_split(here: Path) -> None:
    folder = here / "data" / "tiny"
    files.write_json(folder / "recipe.json", recipe(here, "{}").model_dump())
    for side, rows in {
        "train": TRAIN,
        "val": [("v", "words for validation only", "yes")],
        "test": [("z", "THE FIRST message of all", "yes")],
    }.items():
        files.write_table(
            folder / "split" / f"{side}.parquet",
            pa.table(
                dict(zip(("id", "text", "label"), map(list, zip(*rows, strict=True)), strict=True))
            ),
        )
    done = subprocess.run(
        [sys.executable, "-m", "tasks.check_ready", "tiny"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert (
        "expect_equal_contents_on_one_side(): 1 unexpected values, such as a in train and z in test."
        in done.stderr
    )
    assert done.stderr.endswith(
        "for the ids; mend the data.\n"
    )  # nothing in the recipe would allow it
    failing = pq.read_table(folder / "checks" / "ready" / "failing.parquet").to_pylist()
    assert {(row["id"], row["value"]) for row in failing} == {("z", "a in train and z in test")}
    assert not (folder / "checks" / "ready" / "passed.json").exists()


def test_the_page_is_self_contained_and_shows_a_bar_for_each_column(tmp_path: Path) -> None:
    checked(tmp_path, "{}", snapshot())
    checked(tmp_path, "{}", snapshot(email=0.2), "v2")
    page = (tmp_path / "checks" / "index.html").read_text()
    assert page.count('class="bar"') == 4
    assert "http" not in page and "<script" not in page


def test_dvc_keeps_what_was_accepted_through_a_failure_and_a_second_run_does_nothing(
    here: Path,
) -> None:
    """The stage as dvc.yaml has it, alone, over a snapshot that the test writes."""
    import yaml

    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["check_raw"]
    modules = [path for path in stage["deps"] if path.startswith("tasks/")]
    (here / "tasks").symlink_to(ROOT / "tasks")
    text = yaml.safe_dump(
        {
            "stages": {
                "check_raw": {key: value for key, value in stage.items() if key != "matrix"}
                | {"deps": ["data/tiny/raw", *modules]}
            }
        }
    )
    (here / "dvc.yaml").write_text(text.replace("${item.recipe}", "tiny"))
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "DVC_NO_ANALYTICS": "1",
        "HOME": str(here),
    }
    environment["DVC_SITE_CACHE_DIR"] = str(here / "site")

    def dvc(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "dvc", *words],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
        )

    def given(table: pa.Table) -> "subprocess.CompletedProcess[str]":
        files.write_table(here / "data" / "tiny" / "raw" / "part.parquet", table)
        files.write_json(
            here / "data" / "tiny" / "raw" / "snapshot.json",
            {"partitions": [{"file": "part.parquet"}]},
        )
        return dvc("repro", "check_raw")

    assert dvc("init", "--no-scm").returncode == 0
    (here / "data" / "tiny").mkdir(parents=True)
    files.write_json(here / "data" / "tiny" / "recipe.json", recipe(here, FAILS).model_dump())
    checks, lock = here / "data" / "tiny" / "checks" / "raw", here / "dvc.lock"
    done = given(snapshot())
    assert done.returncode == 0, done.stderr
    first, locked = (checks / "accepted.json").read_bytes(), lock.read_bytes()
    refused = given(snapshot(email=0.1))
    assert refused.returncode != 0
    assert "'email': 71.6% → " in refused.stderr
    assert (checks / "accepted.json").read_bytes() == first
    assert lock.read_bytes() == locked
    assert json.loads((checks / "result.json").read_text())["success"] is False
    assert not (checks / "passed.json").exists()
    done = given(snapshot(1100, seed=3))
    assert done.returncode == 0, done.stderr
    accepted = drift.read_accepted(checks / "accepted.json")
    assert (
        accepted
        and accepted.reference
        and (accepted.profile.rows, accepted.reference.rows) == (1100, 1000)
    )
    before, locked = hashing.hash_folder(checks), lock.read_bytes()
    assert "Running stage" not in dvc("repro", "check_raw").stdout
    assert "Running stage" in dvc("repro", "--force", "check_raw").stdout
    assert (hashing.hash_folder(checks), lock.read_bytes()) == (before, locked)
