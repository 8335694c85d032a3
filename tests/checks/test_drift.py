"""Drift against the last accepted snapshot, and the profile that stands for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.checks import drift, profile
from tasks.checks.drift import AcceptedSnapshot
from tasks.checks.profile import Bins
from tasks.core.errors import StageError
from tasks.recipe.check import Drift
from tasks.storage import hashing
from tests.checks.snapshots import DRIFT_FAILS, check, check_folder, make_snapshot, read_result


def test_the_first_snapshot_is_accepted_with_a_note(tmp_path: Path) -> None:
    result = check(tmp_path, DRIFT_FAILS, make_snapshot())
    assert result.notes == [
        "There is no earlier accepted snapshot to compare with: this one is the first."
    ]
    assert result.results == []


def test_another_sample_of_the_same_source_does_not_drift_even_if_small(tmp_path: Path) -> None:
    check(tmp_path, DRIFT_FAILS, make_snapshot(60))
    for seed in range(1, 21):
        table = make_snapshot(60, seed=seed, label=["yes", "no"] * 30)
        assert check(tmp_path, DRIFT_FAILS, table, f"v{seed}").success


@pytest.mark.parametrize(
    ("changes", "failing", "example"),
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
def test_drift_is_named_and_stops_the_run_if_the_recipe_says_so(
    tmp_path: Path, changes: dict[str, Any], failing: str, example: str
) -> None:
    check(tmp_path, DRIFT_FAILS, make_snapshot())
    table = make_snapshot(**changes)
    with pytest.raises(StageError) as caught:
        check(tmp_path, DRIFT_FAILS, table, "v2")
    failures = {
        result.expectation: result for result in read_result(tmp_path).results if not result.success
    }
    assert example in " ".join(failures[failing].examples)
    accepted = check_folder(tmp_path).accepted
    assert f"delete {accepted}: it is then compared with nothing." in str(caught.value)
    assert check(tmp_path, "{}", table, "v2").warnings  # by default drift is only shown


def test_answers_of_people_are_no_drift(tmp_path: Path) -> None:
    before = make_snapshot(label_source=["functions"] * 1000, label_confidence=[0.7] * 1000)
    after = make_snapshot(
        label_source=["people"] * 1000, label_confidence=[1.0] * 1000, fold=[1] * 1000
    )
    check(tmp_path, DRIFT_FAILS, before)
    assert check(tmp_path, DRIFT_FAILS, after, "v2").success


@pytest.mark.parametrize(
    "section", ["{drift: null}", "{drift: {psi: null}}", "{drift: {ignore: [channel]}}"]
)
def test_a_rule_that_is_turned_off_is_not_applied(tmp_path: Path, section: str) -> None:
    check(tmp_path, section, make_snapshot())
    assert check(tmp_path, section, make_snapshot(email=0.2), "v2").success


def count_accepted_rows(path: Path) -> tuple[int, int]:
    """The rows of the accepted snapshot, and of the one that it was compared with."""
    accepted = AcceptedSnapshot.read_if_exists(path)
    assert accepted
    assert accepted.reference
    return accepted.profile.rows, accepted.reference.rows


def test_only_an_accepted_snapshot_is_compared_with(tmp_path: Path) -> None:
    accepted = check_folder(tmp_path).accepted
    check(tmp_path, DRIFT_FAILS, make_snapshot(), "v1")
    first = accepted.read_bytes()
    with pytest.raises(StageError):
        check(tmp_path, DRIFT_FAILS, make_snapshot(email=0.1), "v2")
    assert accepted.read_bytes() == first
    assert check(tmp_path, DRIFT_FAILS, make_snapshot(1100, seed=3), "v3").success
    assert count_accepted_rows(accepted) == (1100, 1000)


def test_checking_an_accepted_snapshot_again_gives_the_same_bytes(tmp_path: Path) -> None:
    check(tmp_path, DRIFT_FAILS, make_snapshot(), "v1")
    check(tmp_path, DRIFT_FAILS, make_snapshot(1100, seed=3), "v2")
    before = hashing.hash_folder(tmp_path / "checks")
    check(tmp_path, DRIFT_FAILS, make_snapshot(1100, seed=3), "v2")
    assert hashing.hash_folder(tmp_path / "checks") == before


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"snapshot": "v1"}',
        '{"snapshot": "v1", "profile": {"rows": "many"}, "reference": null}',
        '{"schema_version": 9, "snapshot": "v1", "profile": {}, "reference": null}',
    ],
)
def test_a_damaged_profile_is_named_and_never_passed_over(tmp_path: Path, damage: str) -> None:
    check(tmp_path, DRIFT_FAILS, make_snapshot())
    accepted = check_folder(tmp_path).accepted
    accepted.write_text(damage)
    with pytest.raises(StageError) as caught:
        check(tmp_path, DRIFT_FAILS, make_snapshot(), "v2")
    message = str(caught.value)
    assert f"{accepted}, the profile of the last accepted snapshot, is not as it was" in message
    assert f"get it back with `dvc checkout --force {tmp_path}/checks`, or delete it" in message


def test_the_profile_holds_no_text_and_no_value_of_a_row(tmp_path: Path) -> None:
    people = [f"Person {number}" for number in range(1000)]
    table = make_snapshot(text=[f"call {name}" for name in people], owner=people)
    check(tmp_path, DRIFT_FAILS, table)
    kept = check_folder(tmp_path).accepted.read_text()
    assert "Person" not in kept
    assert "email" not in kept
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
    snapshot = profile.build_profile(table, "tabular")
    counts = {name: sum(bins.counts) for name, bins in snapshot.bins.items()}
    assert counts == dict.fromkeys(set(table.column_names) - {"id"}, 2)
    results = drift.check_drift(table, snapshot, snapshot, Drift())
    assert all(result.success for result in results)


def make_bins(*counts: int) -> Bins:
    return Bins(kind="category", edges=[], names=["a"], counts=list(counts))


def test_the_index_is_that_of_its_definition() -> None:
    p = np.array([600.5, 400.5]) / 1001
    q = np.array([300.5, 700.5]) / 1001
    index, chance = profile.compute_psi(make_bins(600, 400, 0), make_bins(300, 700, 0))
    assert index == pytest.approx(((q - p) * np.log(q / p)).sum(), abs=1e-4)
    # 10.83 is the quantile of chi-square with one degree of freedom at 0.999
    assert chance == pytest.approx(10.83 * 2 / 1000, rel=0.05)
    assert profile.compute_psi(make_bins(10, 0, 0), make_bins(99, 0, 0)) == (0.0, 0.0)
