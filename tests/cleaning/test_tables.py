"""Rules for tables, one by one, and tables whose columns are named like other things."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks import clean, ingest, label, split
from tasks.cleaning import RULES
from tasks.core.errors import ConfigError, StageError
from tasks.recipe.loading import read_recipe
from tasks.rows import leakage_check
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths
from tests.cleaning.rule_helpers import applied


def test_trim_takes_white_space_of_any_kind_off_all_text_but_ids() -> None:
    after, _ = applied(
        "trim", {"id": [" 1 "], "a": ["\u00a0 New \u2003 York\t"], "label": [" <=50K"], "n": [1]}
    )
    assert after == {"id": [" 1 "], "a": ["New York"], "label": ["<=50K"], "n": [1]}


def test_markers_become_null_and_a_class_called_none_does_not() -> None:
    cells = ["?", " N/A ", "EMPTY", "-", "", "-5", "Nan Ning", None]
    after, _ = applied("missing", {"a": cells, "label": ["none"] * len(cells)})
    assert after == {"a": [None] * 5 + ["-5", "Nan Ning", None], "label": ["none"] * len(cells)}
    assert applied("missing", {"a": ["?", "x"]}, markers=["X"])[0] == {"a": ["?", None]}


def test_cells_that_do_not_parse_reject_their_row_by_column_and_value_or_become_null() -> None:
    columns: dict[str, list[Any]] = {
        "age": ["39", "old", None],
        "height": ["1.80 m", "2 kg", "180"],
    }
    given = {"age": "integer", "height": {"type": "number", "unit": "cm"}}
    after, reasons = applied("types", columns, columns=given)
    assert after == {"age": [39, None, None], "height": [180.0, None, 180.0]}
    assert reasons == [
        None,
        "age: 'old' is no number; height: '2 kg' has the unit kg where cm is expected",
        None,
    ]
    assert applied("types", columns, columns=given, unparsed="null") == (after, [None] * 3)


def test_rows_outside_a_range_go_with_the_bound_and_null_is_neither() -> None:
    day = datetime.date
    columns: dict[str, list[Any]] = {
        "age": [-1, 0, 120, 130, None],
        "seen": [day(2020, 1, 1), day(1, 1, 1), day(9999, 12, 31), day(2020, 1, 1), None],
    }
    _, reasons = applied(
        "range",
        columns,
        columns={
            "age": {"min": 0, "max": 120},
            "seen": {"min": "1900-01-01", "max": "2100-01-01"},
        },
    )
    assert reasons == [
        "age: -1 must be at least 0 and at most 120",
        "seen: 0001-01-01 must be at least 1900-01-01 and at most 2100-01-01",
        "seen: 9999-12-31 must be at least 1900-01-01 and at most 2100-01-01",
        "age: 130 must be at least 0 and at most 120",
        None,
    ]


@pytest.mark.parametrize("method", ["iqr", "mad"])
def test_outliers_go_or_become_null_and_without_a_scale_nothing_is_one(method: str) -> None:
    columns: dict[str, list[Any]] = {"a": [*range(20), 400, None], "flat": [0] * 20 + [7, None]}
    after, reasons = applied("outliers", columns, columns=["a", "flat"], method=method)
    assert (after, [row for row, reason in enumerate(reasons) if reason]) == (columns, [20])
    assert reasons[20] is not None and reasons[20].startswith("a: 400 is far outside")
    after, reasons = applied("outliers", columns, columns=["a"], method=method, action="null")
    assert after == {**columns, "a": [*range(20), None, None]}
    assert reasons == [None] * 22


def test_what_most_of_a_group_say_is_taken_and_a_tie_changes_nothing() -> None:
    columns = {
        "zip": ["1", "1", "1", "2", "2", None, None, "3"],
        "city": ["Ulm", "Ulm", "Uxm", "Bonn", "Boxn", "Ulm", "Uxm", None],
    }
    after, _ = applied("repair", columns, by=["zip"], columns=["city"])
    assert after["city"] == ["Ulm", "Ulm", "Ulm", "Bonn", "Boxn", "Ulm", "Uxm", None]
    assert (
        applied(
            "repair", {"zip": ["1"] * 3, "city": ["Ulm", "Ulm", None]}, by=["zip"], columns=["city"]
        )[0]["city"]
        == ["Ulm"] * 3
    )


def test_a_row_whose_key_is_wrong_keeps_its_cells() -> None:
    columns = {
        "zip": ["1"] * 4 + ["2"] * 3 + ["1"],
        **{name: [f"{name}1"] * 4 + [f"{name}2"] * 4 for name in "abc"},
    }
    assert applied("repair", columns, by=["zip"], columns=["a", "b", "c"])[0] == columns


@pytest.mark.parametrize(
    ("rule", "arguments", "sentence"),
    [
        (
            "trim",
            {"columns": ["agee"]},
            r"clean: trim: the data has no column 'agee' \(did you mean age\?\); it has age, n.",
        ),
        ("repair", {"by": ["age"], "columns": ["m"]}, "repair: the data has no column 'm'"),
        (
            "missing",
            {"columns": ["n"]},
            "missing works on text, and the column 'n' holds int64: put it before the rule types",
        ),
        (
            "range",
            {"columns": {"age": {"min": 0}}},
            "range needs numbers or dates, and the column 'age' holds string: put types: "
            "{columns: {age: number}} before",
        ),
        (
            "range",
            {"columns": {"n": {"min": "2026-01-01"}}},
            "range compares the column 'n', which holds int64, with {'min': '2026-01-01'}: give "
            "dates for dates",
        ),
        ("outliers", {"columns": ["age"]}, "outliers needs numbers"),
    ],
)
def test_a_rule_that_does_not_fit_the_data_says_what_to_do(
    rule: str, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StageError, match=sentence):
        applied(rule, {"age": ["1"], "n": [1]}, **arguments)


def test_mistakes_in_the_arguments_of_rules_name_rule_key_and_remedy(here: Path) -> None:
    rules = """
    - types: {columns: {label: integer, a: number}}
    - types: {columns: {a: nubmer}}
    - types: {columns: {a: {type: date, unit: cm}}}
    - types: {columns: {a: {type: date, format: '%H'}}}
    - range: {columns: {a: {mn: 0}}}
    - range: {columns: {a: {min: old}}}
    - repair: {by: [a], columns: [a, b]}
    - spelling: {columns: [a], map: {yes: 1}}
"""
    expected = (
        "types.columns: gives a type to 'label', which the pipeline needs as it is",
        "types.columns.a.type: 'nubmer' is not allowed (did you mean number?). Allowed: number, "
        "integer, boolean, date",
        "types.columns.a: has a unit or a decimal mark, which a date does not have",
        "types.columns.a: has the format '%H', which does not give day, month and year",
        "range.columns.a.mn: is not a known key (did you mean min?)",
        "range.columns.a.min: 'old' is neither a number nor a date such as 2026-01-31",
        "repair: has 'a' in by and in columns",
        "spelling.map",
    )
    for rule, sentence in zip(rules.strip().splitlines(), expected, strict=True):
        (here / "r.yaml").write_text(
            f"name: r\nmodality: tabular\ningest: {{kind: files, path: x.csv}}\nclean:\n"
            f"  rules:\n    {rule}\ngate: []\n"
        )
        with pytest.raises(ConfigError) as caught:
            read_recipe(here / "r.yaml")
        assert f"clean.rules: {sentence}" in str(caught.value)


@pytest.mark.parametrize("column", ["text", "image"])
def test_a_table_may_have_a_column_called_like_a_content(here: Path, column: str) -> None:
    """Rows differ in `age` alone: they are different rows, and none is on two sides."""
    lines = [f"{n},{'same' if n % 2 else 'again'},{'yes' if n % 3 else 'no'}" for n in range(400)]
    (here / "rows.csv").write_text("\n".join([f"age,{column},label", *lines]) + "\n")
    (here / "recipe.yaml").write_text(
        "name: named\nmodality: tabular\ningest: {kind: files, path: rows.csv}\n"
        "clean: {rules: [types: {columns: {age: integer}}, conflicting_duplicates, "
        "exact_duplicates]}\n"
        "gate: [{rule: floor, metric: macro_f1, bound: 0.5}]\n"
    )
    made = read_recipe(here / "recipe.yaml")
    ingest.run(made, StagePaths(here))
    clean.run(made, StagePaths(here))
    label.run(made, StagePaths(here))
    split.run(made, StagePaths(here))
    parts = {side: files.read_table(here / "split" / f"{side}.parquet") for side in layout.SPLITS}
    assert files.read_json(here / "clean" / "report.json")["rejects"] == 0
    assert files.read_json(here / "split" / "report.json")["rejects"] == 0
    assert sum(part.num_rows for part in parts.values()) == 400
    assert min(part.num_rows for part in parts.values()) > 20
    results, _ = leakage_check.check_leakage(parts, "tabular")
    assert all(outcome.result.success for outcome in results)
    parts["test"] = pa.concat_tables(
        [parts["test"], parts["train"].slice(0, 1).set_column(0, "id", pa.array(["twin"]))]
    )
    failed = [
        outcome.result.expectation
        for outcome in leakage_check.check_leakage(parts, "tabular")[0]
        if not outcome.result.success
    ]
    assert failed == ["expect_equal_contents_on_one_side"]


def test_personal_data_goes_from_all_columns_of_a_table_with_a_column_text() -> None:
    table = pa.table({"id": ["a"], "text": ["nothing"], "owner": ["c@d.org"]})
    outcome = RULES["pii"].bind({"kinds": ["email"]}, "tabular").apply(table)
    assert outcome.table["owner"].to_pylist() == ["[email]"]


def test_a_column_text_may_have_a_type_in_a_table_and_in_no_text(here: Path) -> None:
    about = (
        "ingest: {kind: files, path: rows.csv}\n"
        "clean: {rules: [types: {columns: {text: integer}}]}\n"
    )
    gate = "gate: [{rule: floor, metric: macro_f1, bound: 0.5}]\n"
    (here / "table.yaml").write_text(f"name: table\nmodality: tabular\n{about}{gate}")
    (here / "words.yaml").write_text(f"name: words\nmodality: text\n{about}{gate}")
    assert read_recipe(here / "table.yaml").modality == "tabular"
    with pytest.raises(
        ConfigError, match="gives a type to 'text', which the pipeline needs as it is: leave it out"
    ):
        read_recipe(here / "words.yaml")


def test_a_table_of_one_column_is_compared_by_exactly_what_it_holds() -> None:
    table = pa.table(
        {
            "id": ["a", "b"],
            "code": ["a code of many letters 1", "a code of many letters 2"],
            "label": ["x", "x"],
        }
    )
    _, notes = leakage_check.check_leakage(
        {"train": table.slice(0, 1), "val": table.slice(0, 0), "test": table.slice(1)}, "tabular"
    )
    assert notes == [leakage_check.NOT_TEXTS_NOTE]
