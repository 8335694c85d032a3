"""The proof that no row, and none like it, is in two parts of a split."""

import pyarrow as pa
import pytest

from tasks.contracts.check_result import CheckResult
from tasks.rows import leakage, leakage_check

Row = tuple[str, str, str]  # id, text, label

TRAIN = [("a", "the first message of all", "yes"), ("b", "quite another matter than that", "no")]


def make_table(rows: list[Row]) -> pa.Table:
    columns = {}
    for position, name in enumerate(("id", "text", "label")):
        columns[name] = pa.array([row[position] for row in rows], pa.string())
    return pa.table(columns)


def prove(train: list[Row], test: list[Row]) -> dict[str, CheckResult]:
    """The results of the proof by expectation."""
    tables = {"train": make_table(train), "val": make_table([]), "test": make_table(test)}
    outcomes, notes = leakage_check.check_leakage(tables, "text")
    assert notes == []
    return {outcome.result.expectation: outcome.result for outcome in outcomes}


@pytest.mark.parametrize(
    ("planted", "expectation", "example"),
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
def test_a_row_in_two_splits_is_found_with_both_ids_and_splits(
    planted: Row, expectation: str, example: str
) -> None:
    clean = prove(TRAIN, [("y", "something else altogether", "no")])
    assert all(result.success for result in clean.values())
    failed = prove(TRAIN, [planted])[expectation]
    assert not failed.success
    assert failed.examples == [example]


def test_too_many_rows_are_compared_exactly_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "MAX_ROWS_FOR_NEAR_SEARCH", 1)
    table = pa.table({"id": ["a", "b"], "text": ["x", "y"], "label": ["yes", "no"]})
    nothing = table.slice(0, 0)
    outcomes, [note] = leakage_check.check_leakage(
        {"train": table, "val": nothing, "test": nothing}, "text"
    )
    assert [outcome.result.expectation for outcome in outcomes] == [
        "expect_ids_on_one_side",
        "expect_equal_contents_on_one_side",
        "expect_every_class_in_train",
    ]
    assert note.startswith("Near-duplicates across splits ")
    assert "2 rows are more than 1" in note


def test_the_proof_does_not_claim_to_have_compared_images() -> None:
    table = pa.table({"id": ["a", "b"], "image": [b"x", b"y"], "label": ["yes", "no"]})
    nothing = table.slice(0, 0)
    outcomes, [note] = leakage_check.check_leakage(
        {"train": table, "val": nothing, "test": nothing}, "image"
    )
    names = [outcome.result.expectation for outcome in outcomes]
    assert "expect_near_duplicates_on_one_side" not in names
    assert "among texts only" in note
