"""Great Expectations: failing rows, observed values, and declarations that do not fit."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.checks import expectations
from tasks.core.errors import StageError
from tasks.recipe.check import list_expectation_names
from tests.checks.snapshots import check, check_folder, make_snapshot, read_result

ROWS = pd.DataFrame(
    {
        "id": list("abcdef"),
        "a": ["x", "y", None, "zz", "x", "2024-01-01"],
        "b": ["x", "y", "q", "zz", "w", "v"],
        "n": [1.0, 2.0, 3.0, 4.0, None, 100.0],
        "m": [1, 2, 3, 4, 5, 6],
    }
)
# An expectation, its arguments, and the ids of the rows that break it.
BY_ROW: list[tuple[str, dict[str, Any], str]] = [
    ("expect_column_values_to_not_be_null", {"column": "a"}, "c"),
    ("expect_column_values_to_be_null", {"column": "a"}, "abdef"),
    ("expect_column_values_to_be_in_set", {"column": "a", "value_set": ["x"]}, "bdf"),
    ("expect_column_values_to_not_be_in_set", {"column": "a", "value_set": ["x"]}, "ae"),
    (
        "expect_column_values_to_be_between",
        {"column": "n", "min_value": 2, "max_value": 5},
        "af",
    ),
    (
        "expect_column_value_lengths_to_be_between",
        {"column": "a", "min_value": 2, "max_value": 5},
        "abef",
    ),
    ("expect_column_value_lengths_to_equal", {"column": "a", "value": 1}, "df"),
    ("expect_column_values_to_match_regex", {"column": "a", "regex": "^x"}, "bdf"),
    ("expect_column_values_to_not_match_regex", {"column": "a", "regex": "^x"}, "ae"),
    ("expect_column_values_to_match_regex_list", {"column": "a", "regex_list": ["^x"]}, "bdf"),
    ("expect_column_values_to_be_unique", {"column": "a"}, "ae"),
    (
        "expect_column_values_to_match_strftime_format",
        {"column": "a", "strftime_format": "%Y-%m-%d"},
        "abde",
    ),
    (
        "expect_column_value_z_scores_to_be_less_than",
        {"column": "n", "threshold": 1, "double_sided": True},
        "f",
    ),
    ("expect_column_values_to_be_decreasing", {"column": "m"}, "bcdef"),
    ("expect_column_pair_values_to_be_equal", {"column_A": "a", "column_B": "b"}, "cef"),
    (
        "expect_select_column_values_to_be_unique_within_record",
        {"column_list": ["a", "b"]},
        "abd",
    ),
]


def test_each_failing_expectation_names_the_rows_that_break_it() -> None:
    declared = [{name: arguments} for name, arguments, _ in BY_ROW]
    same_index = pd.Index([9] * len(ROWS))  # what pandas' own index was does not matter
    table = pa.Table.from_pandas(ROWS.set_index(same_index))
    outcomes = expectations.validate_rows(table, declared, "raw")
    for outcome, (name, _, expected) in zip(outcomes, BY_ROW, strict=True):
        assert outcome.result.expectation == name
        assert outcome.failing is not None
        assert "".join(outcome.failing["id"].to_pylist()) == expected
        assert outcome.result.unexpected == len(expected)


def test_a_recipe_may_name_every_expectation_that_there_is_and_no_other() -> None:
    import great_expectations as gx

    classes = {name.lower() for name in dir(gx.expectations) if name.startswith("Expect")}
    offered = classes - {"expectation"}
    assert {name.replace("_", "") for name in list_expectation_names()} == offered


def test_an_observed_value_that_is_no_number_is_shown(tmp_path: Path) -> None:
    name = "expect_column_most_common_value_to_be_in_set"
    section = f"{{raw: [{name}: {{column: channel, value_set: [fax]}}]}}"
    sentence = rf"{name}\(column=channel, value_set=\['fax'\]\): observed \['email'\]\."
    with pytest.raises(StageError, match=sentence):
        check(tmp_path, section, make_snapshot())


def test_a_missing_column_can_be_a_warning(tmp_path: Path) -> None:
    section = "{raw: [expect_column_to_exist: {column: region, severity: warn}]}"
    result = check(tmp_path, section, make_snapshot())
    assert result.warnings == [
        "check raw: expect_column_to_exist(column=region): it does not hold."
    ]


def test_numbers_expected_in_a_column_of_texts_end_with_what_to_do(tmp_path: Path) -> None:
    section = "{raw: [expect_column_values_to_be_between: {column: price, min_value: 0}]}"
    with pytest.raises(StageError) as caught:
        check(tmp_path, section, make_snapshot())
    assert (
        "could not be evaluated: Column values, min_value, and max_value must either be None or "
        "of the same type. The column 'price' holds text, "
    ) in str(caught.value)
    assert str(caught.value).endswith(
        "compare numbers and dates in check.ready, typed by the cleaning rule `types`."
    )


def test_an_expectation_that_concerns_no_single_rows_gives_no_ids(tmp_path: Path) -> None:
    section = "{raw: [expect_table_row_count_to_equal: {value: 7}]}"
    with pytest.raises(StageError, match="observed 1000"):
        check(tmp_path, section, make_snapshot())
    folder = check_folder(tmp_path)
    assert read_result(tmp_path).results[0].ids is None
    assert pq.read_table(folder.failing).num_rows == 0
    assert "not about single rows" in folder.page.read_text()


def test_failing_rows_are_written_with_number_id_column_and_value(tmp_path: Path) -> None:
    name = "expect_compound_columns_to_be_unique"
    section = (
        "{raw: [expect_column_values_to_be_unique: {column: id}, "
        f"{name}: {{column_list: [label, channel]}}]}}"
    )
    table = make_snapshot(3, label=["a", "a", "b"], channel=["x", "x", "y"])
    with pytest.raises(StageError):
        check(tmp_path, section, table)
    common = {"number": 1, "expectation": name, "column": "label, channel", "value": "a, x"}
    expected = [{**common, "id": "r0"}, {**common, "id": "r1"}]
    assert pq.read_table(check_folder(tmp_path).failing).to_pylist() == expected
