"""Tables: what each rule does, two dirty tables as wholes, and the model that learns from them."""

import csv
import datetime
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import clean, evaluate, ingest, label, modalities, split
from tasks import train as tasks_train
from tasks.cleaning import RULES, spelling
from tasks.cleaning.parsing import parse_cell
from tasks.contracts.evaluation import Evaluation
from tasks.core.errors import ConfigError, StageError
from tasks.gating import verdict
from tasks.modalities import tabular
from tasks.modalities.tabular import TabularTrainer
from tasks.recipe.cleaning_rules import ColumnType
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.rows import leakage_check
from tasks.storage import files, hashing, layout
from tasks.storage.layout import StagePaths
from tasks.training import loop
from tasks.training.training_data import TrainingData
from tests import tiny
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"
RECIPES = ROOT / "tests" / "recipes"


def applied(
    rule: str, cells: dict[str, list[Any]], /, **arguments: Any
) -> tuple[dict[str, list[Any]], list[str | None]]:
    """Apply a rule with the arguments of a recipe; return the columns, and why each row goes."""
    table = pa.table(cells)
    outcome = RULES[rule].bind(arguments, "tabular").apply(table)
    return outcome.table.to_pydict(), outcome.reasons or [None] * table.num_rows


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


@pytest.mark.parametrize(
    ("cell", "type", "arguments", "value"),
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
    cell: str, type: str, arguments: dict[str, str], value: Any
) -> None:
    column_type = ColumnType.model_validate({"type": type, **arguments})
    assert parse_cell(cell, column_type) == value


@pytest.mark.parametrize(
    ("cell", "type", "arguments", "sentence"),
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
    cell: str, type: str, arguments: dict[str, str], sentence: str
) -> None:
    column_type = ColumnType.model_validate({"type": type, **arguments})
    with pytest.raises(ValueError, match=sentence):
        parse_cell(cell, column_type)


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


def test_rare_spellings_become_frequent_ones_and_words_of_their_own_stay() -> None:
    cells = (
        ["Birmingham"] * 30
        + ["birmingham", "Birminghxm", "Birmxngxam", "Boaz", "male"]
        + ["room 1"] * 20
        + ["room 2", None]
        + ["female"] * 40
    )
    after, _ = applied(
        "spelling", {"a": cells, "b": cells}, columns=["a"], map={"boaz": "Boaz, AL"}
    )
    assert after["a"] == ["Birmingham"] * 33 + ["Boaz, AL", "male"] + cells[35:]
    assert after["b"] == cells


def test_a_value_between_two_equally_near_ones_stays() -> None:
    cells = ["kitten"] * 20 + ["mitten"] * 20 + ["bitten"]
    assert applied("spelling", {"a": cells}, columns=["a"])[0]["a"] == cells


def test_the_index_finds_every_pair_that_comparing_all_finds() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abc", k=draw.randint(4, 9))) for _ in range(60)]
    frequent = set(words[::3])
    counts = Counter({word: 50 if word in frequent else 1 for word in words})
    expected = {}
    for word in set(words) - frequent:
        nearest = spelling.find_nearest(word, frequent, 2)
        if nearest:
            expected[word] = nearest
    assert len(expected) > 5
    assert spelling.find_corrections(counts, 2, 10.0) == expected


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
            "seen": {"min": day(1900, 1, 1), "max": "2100-01-01"},
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


def cleaned(made: Recipe, folder: Path, until: str = "split") -> pa.Table:
    """The rows after clean; label and split run too."""
    ingest.run(made, StagePaths(folder))
    clean.run(made, StagePaths(folder))
    if until == "split":
        label.run(made, StagePaths(folder))
        split.run(made, StagePaths(folder))
    return files.read_rows(folder / "clean")


def pointed(name: str, path: str) -> Recipe:
    """A recipe of this folder with its source elsewhere."""
    made = read_recipe(RECIPES / f"{name}.yaml")
    return made.model_copy(update={"ingest": made.ingest.model_copy(update={"path": path})})


def dirt(here: Path) -> tuple[Path, Path]:
    """A small table of hospitals as (dirty.csv, clean.csv): x in one cell of forty, keys too."""
    draw = random.Random(0)
    names = [
        "index",
        "provider_number",
        "name",
        "address_1",
        "city",
        "state",
        "zip",
        "county",
        "phone",
        "type",
        "owner",
        "emergency_service",
        "condition",
        "measure_code",
        "measure_name",
        "state_average",
    ]
    rows: list[list[str]] = []
    dirty: list[list[str]] = []
    for hospital in range(12):
        state = "al" if hospital < 6 else "ak"
        about = [
            f"{10000 + hospital * 37}",
            f"hospital of saint {hospital * 7}",
            f"{hospital * 13} main street",
            f"town{hospital}",
            state,
            f"{35000 + hospital}",
        ]
        about += [
            f"county{hospital}",
            f"205{hospital * 7919:07d}",
            "acute care hospitals",
            "government",
            "yes" if hospital % 3 else "no",
        ]
        for measure in range(10):
            rows.append(
                [
                    str(len(rows)),
                    *about,
                    f"condition{measure % 3}",
                    f"ami-{measure}",
                    f"patients given drug {measure} early",
                    f"{state}_ami-{measure}",
                ]
            )
    for row in rows:
        hit = [draw.random() < 1 / 40 and number > 0 for number in range(len(row))]
        dirty.append(
            [cell[:-1] + "x" if wrong else cell for cell, wrong in zip(row, hit, strict=True)]
        )
    for name, table in (("dirty", dirty), ("clean", rows)):
        with (here / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([names, *table])
    return here / "dirty.csv", here / "clean.csv"


@pytest.mark.parametrize(
    "real",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not DATA.is_dir(), reason="the real data is not beside the repository"
            ),
        ),
    ],
)
def test_a_table_of_hospitals_is_repaired_with_precision_and_recall(here: Path, real: bool) -> None:
    dirty, truth = (
        (DATA / "hospital" / "dirty.csv", DATA / "hospital" / "clean.csv") if real else dirt(here)
    )
    made = pointed("hospital", str(dirty))
    rows = {row["id"]: row for row in cleaned(made, here / "data").to_pylist()}
    (header, *before), (_, *right) = (
        list(csv.reader(path.open(newline=""))) for path in (dirty, truth)
    )
    names = [{"index": "id", "emergency_service": "label"}.get(name, name) for name in header]
    cells = [
        (old, rows[line[0]][name] or "", told)
        for line, true in zip(before, right, strict=True)
        for name, old, told in zip(names, line, true, strict=True)
    ]
    changed, wrong = (
        sum(new != old for old, new, _ in cells),
        sum(old != told for old, _, told in cells),
    )
    repaired = sum(new != old and new == told for old, new, told in cells)
    precision, recall = repaired / changed, repaired / wrong
    assert wrong == 509 if real else wrong > 20
    assert precision >= 0.99
    assert 2 * precision * recall / (precision + recall) >= (0.94 if real else 0.9)
    assert len((RECIPES / "hospital.yaml").read_text().splitlines()) <= 40
    assert files.read_json(here / "data" / "split" / "report.json")["rows"] == len(before)


def census(here: Path) -> str:
    """A census without header, with blanks before cells, and `?` cells.

    The labels of the test half end in a full stop, and two rows are impossible.
    """
    draw = random.Random(0)
    for half, stop in (("train", ""), ("test", ".")):
        lines = []
        for _ in range(300):
            age, hours = draw.randint(17, 90), draw.randint(1, 99)
            rich = age + hours + draw.randint(-20, 20) > 110
            work, sex = draw.choice(["Private", "Local-gov", "?"]), draw.choice(["Male", "Female"])
            cells = [
                age,
                work,
                draw.randint(10_000, 900_000),
                "HS-grad",
                9,
                "Divorced",
                "Sales",
                "Husband",
                "White",
                sex,
                0,
                0,
                hours,
                "Peru",
            ]
            lines.append(", ".join(map(str, [*cells, (">50K" if rich else "<=50K") + stop])))
        lines += [
            lines[0],
            lines[1].replace(lines[1].split(",")[0], "old", 1),
            lines[2].replace(lines[2].split(",")[0], "190", 1),
        ]
        (here / f"adult-{half}.csv").write_text("\n".join(lines) + "\n\n")
    return str(here / "adult-*.csv")


def test_a_census_is_cleaned_typed_and_split_with_nothing_lost(here: Path) -> None:
    table = cleaned(pointed("uci-adult", census(here)), here / "data")
    report = files.read_json(here / "data" / "clean" / "report.json")
    assert {
        rule["rule"]: (rule["changed"], rule["rejected"])
        for rule in report["rules"]
        if rule["rule"] not in ("missing", "types")
    } == {
        "trim": (606, 0),
        "spelling": (303, 0),
        "range": (0, 2),
        "exact_duplicates": (0, 2),
    }
    assert report["rows_in"] == 606 == report["rows"] + report["rejects"]
    assert set(table["label"].to_pylist()) == {"<=50K", ">50K"}
    assert table["workclass"].null_count > 100
    assert [str(table[name].type) for name in ("age", "workclass", "capital_gain")] == [
        "int64",
        "string",
        "double",
    ]
    rejects = files.read_table(here / "data" / "clean" / "rejects.parquet")
    assert rejects["age"].type == pa.string()
    shown = {row["rule"]: (row["age"], row["detail"]) for row in rejects.to_pylist()}
    assert shown["types"] == ("old", "age: 'old' is no number")
    assert shown["range"] == ("190", "age: 190 must be at least 0 and at most 120")


def test_equal_input_gives_equal_bytes(here: Path) -> None:
    made = pointed("uci-adult", census(here))

    def hashes() -> dict[str, str]:
        cleaned(made, here / "data")
        return hashing.hash_folder(here / "data")

    assert hashes() == hashes()


@pytest.mark.skipif(
    not DATA.is_dir(), reason="the real UCI Adult files are not beside the repository"
)
def test_the_real_census_goes_through(here: Path) -> None:
    table = cleaned(pointed("uci-adult", str(DATA / "uci_adult" / "adult-*.csv")), here / "data")
    report = {
        rule["rule"]: rule
        for rule in files.read_json(here / "data" / "clean" / "report.json")["rules"]
    }
    assert report["spelling"]["changed"] == 16_281
    assert report["missing"]["changed"] == 3_620
    assert report["types"]["rejected"] == report["range"]["rejected"] == 0
    assert table.num_rows == 48_842 - report["exact_duplicates"]["rejected"]


def test_the_model_learns_what_no_linear_model_can_and_answers_alike_after_export(
    here: Path,
) -> None:
    (here / "data" / "sources").mkdir(parents=True)
    (here / "data" / "sources" / "xor.csv").write_bytes(
        (ROOT / "data" / "sources" / "xor.csv").read_bytes()
    )
    made = read_recipe(ROOT / "recipes" / "xor.yaml")
    folder = here / "data" / "xor"
    cleaned(made, folder)
    tasks_train.run(made, StagePaths(folder), here / "checkpoints")
    evaluate.run(made, StagePaths(folder))
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    assert metrics["accuracy"]["value"] == 1.0
    assert metrics["baseline"]["accuracy"]["value"] < 0.8
    assert verdict.judge_model(made, StagePaths(folder), None).verdict == "promote"
    predictor = modalities.load_predictor(folder / "model", 1)
    asked = predictor([{"a": a, "b": b} for a in (0, 1) for b in (0, 1)])
    assert asked.argmax(1).tolist() == [0, 1, 1, 0]
    assert np.allclose(
        asked, predictor([{"a": str(a), "b": float(b)} for a in (0, 1) for b in (0, 1)])
    )


def rows(count: int = 400) -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [
        {
            "text": str(draw.random()) if number % 4 else None,
            "typed": draw.choice([1, 2]),
            "zip": f"0{draw.randint(1000, 1100)}",
            "day": datetime.date(2026, 1, 1) + datetime.timedelta(number),
            "colour": draw.choice(["red", "green", None]) if number else "mauve",
            "ok": draw.random() < 0.5,
            "constant": "x",
        }
        for number in range(count)
    ]


def test_columns_are_numbers_or_categories_by_type_or_by_what_they_hold() -> None:
    columns = {column.name: column for column in tabular.infer_columns(rows())}
    assert {name: column.kind for name, column in columns.items()} == {
        "text": "number",
        "typed": "number",
        "zip": "category",
        "day": "number",
        "colour": "category",
        "ok": "category",
    }
    assert columns["colour"]["values"] == [None, "green", "red"]


def test_what_was_rare_or_not_there_in_training_has_a_place_and_nothing_breaks() -> None:
    columns = tabular.infer_columns(rows())
    known = tabular.encode_features(columns, rows())
    odd: list[dict[str, Any]] = [
        {"text": "1e999", "typed": float("inf"), "colour": "blue", "zip": 5, "day": "2026-01-31"},
        {},
        {"text": "3", "typed": 1e300},
    ]
    made = tabular.encode_features(columns, odd)
    assert np.isfinite(made).all() and np.abs(made).max() <= tabular.CLIP_STD
    assert made.shape == (3, known.shape[1])
    at = [
        column.name
        for column in columns
        for _ in range(tabular.encode_features([column], odd).shape[1])
    ]
    assert not made[0, [name in ("colour", "zip") for name in at]].any()
    number, gap = known[:, :2].T
    assert gap.sum() == 100
    assert abs(number[gap == 0].mean()) < 1e-6 and abs(number[gap == 0].std() - 1) < 1e-6


def test_a_table_of_free_texts_alone_is_refused() -> None:
    with pytest.raises(
        StageError,
        match=(
            r"no column tells the training rows apart: they have comment; name others in "
            r"columns.features"
        ),
    ):
        tabular.infer_columns([{"comment": f"text {number}"} for number in range(400)])


def test_a_table_in_which_no_column_tells_rows_apart_is_refused() -> None:
    with pytest.raises(
        StageError,
        match=(
            r"no column tells the training rows apart: they have a, b; name others in "
            r"columns.features"
        ),
    ):
        TabularTrainer(Train(), [{"a": "x", "b": None}] * 5, tiny.TWO)


def test_a_feature_that_the_data_lacks_is_named_with_the_nearest(here: Path) -> None:
    made = read_recipe(ROOT / "recipes" / "xor.yaml")
    made = made.model_copy(
        update={"columns": made.columns.model_copy(update={"features": ["a", "bb"]})}
    )
    with pytest.raises(
        StageError,
        match=r"columns.features: the data has no column 'bb' \(did you mean b\?\); it has a, b",
    ):
        modalities.extract_inputs(made, pa.table({"a": [1], "b": [2]}))


def test_the_tumours_have_thirty_measures_and_two_classes(here: Path) -> None:
    made = read_recipe(ROOT / "recipes" / "tumors.yaml")
    table = cleaned(made, here / "data")
    assert (table.num_rows, len(table.column_names)) == (569, 32)
    assert {
        column.kind
        for column in tabular.infer_columns(table.drop_columns(["id", "label"]).to_pylist())
    } == {"number"}


def test_l1_takes_weights_away(tmp_path: Path) -> None:
    data = rows()
    labels = np.array([row["typed"] - 1 for row in data], np.int64)

    def weight(l1: float, folder: Path) -> float:
        section = Train(epochs=3, l1=l1, hidden_sizes=[8], learning_rate=1e-2)
        adapter = TabularTrainer(section, data, tiny.TWO)
        examples = adapter.encode(data)
        loop.fit(adapter, section, TrainingData(examples, labels, examples, labels), folder)
        return float(
            sum(parameter.detach().abs().sum() for parameter in adapter.network.parameters())
        )

    assert weight(0.05, tmp_path / "a") < 0.5 * weight(0.0, tmp_path / "b")


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
