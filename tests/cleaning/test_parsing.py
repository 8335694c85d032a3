"""Cells: what their text means, and why it means nothing."""

import datetime
from typing import Any

import pytest

from tasks.cleaning.parsing import parse_cell
from tasks.recipe.cleaning_rules import ColumnType


@pytest.mark.parametrize(
    ("cell", "type_name", "arguments", "value"),
    [
        ("1.80 m", "number", {"unit": "cm"}, 180.0),
        ("180cm", "number", {"unit": "cm"}, 180.0),
        ("180", "number", {"unit": "cm"}, 180.0),
        ("5 kg", "number", {"unit": "g"}, 5000.0),
        ("98.6 °F", "number", {"unit": "C"}, 37.0),
        ("-40 F", "number", {"unit": "C"}, -40.0),
        ("2 GB", "integer", {"unit": "MB"}, 2000),
        ("$1,200", "number", {"unit": "USD"}, 1200.0),
        ("12 %", "number", {"unit": "%"}, 12.0),
        ("12,5", "number", {}, 12.5),
        ("1,234.5", "number", {}, 1234.5),
        ("1.234,5", "number", {}, 1234.5),
        ("1 234 567", "integer", {}, 1_234_567),
        ("1,234", "integer", {}, 1234),
        ("1,234", "number", {"decimal": ","}, 1.234),
        ("−5", "integer", {}, -5),
        ("39.0", "integer", {}, 39),
        ("1e-3", "number", {}, 0.001),
        ("", "number", {}, None),
        ("2026-01-31", "date", {}, datetime.date(2026, 1, 31)),
        ("2026/1/5", "date", {}, datetime.date(2026, 1, 5)),
        ("31 Jan 2026", "date", {}, datetime.date(2026, 1, 31)),
        ("2026-01-31T23:59:59Z", "date", {}, datetime.date(2026, 1, 31)),
        ("9999-12-31", "date", {}, datetime.date(9999, 12, 31)),
        ("05/01/2026", "date", {"format": "%d/%m/%Y"}, datetime.date(2026, 1, 5)),
        ("Yes", "boolean", {}, True),
        ("0", "boolean", {}, False),
    ],
)
def test_a_cell_means_what_a_person_would_read(
    cell: str, type_name: str, arguments: dict[str, str], value: Any
) -> None:
    column_type = ColumnType.model_validate({"type": type_name, **arguments})
    assert parse_cell(cell, column_type) == value


@pytest.mark.parametrize(
    ("cell", "type_name", "arguments", "sentence"),
    [
        ("abc", "number", {}, "is no number"),
        ("12 34", "number", {}, "is no number"),
        ("1.2.3", "number", {}, "is no number"),
        ("nan", "number", {}, "is no number"),
        ("1e400", "number", {}, "is too large"),
        ("9" * 20, "integer", {}, "is too large"),
        ("9" * 5000, "integer", {}, "it has 5000 characters"),
        ("39.5", "integer", {}, "is no whole number"),
        ("5 kg", "number", {}, "has the unit kg, and the recipe names none"),
        ("5 kg", "number", {"unit": "cm"}, "has the unit kg where cm is expected"),
        ("€5", "number", {"unit": "$"}, "has the unit eur where usd is expected"),
        ("0000-00-00", "date", {}, "is no date"),
        ("10000-01-01", "date", {}, "is no date"),
        ("2026-02-30", "date", {}, "is no date"),
        (
            "05/01/2026",
            "date",
            {},
            "is no date such as 2026-01-31 or 31 Jan 2026, and the recipe gives no other format",
        ),
        ("perhaps", "boolean", {}, "is neither yes nor no"),
    ],
)
def test_a_cell_that_cannot_be_read_says_why(
    cell: str, type_name: str, arguments: dict[str, str], sentence: str
) -> None:
    column_type = ColumnType.model_validate({"type": type_name, **arguments})
    with pytest.raises(ValueError, match=sentence):
        parse_cell(cell, column_type)
