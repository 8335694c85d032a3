"""Two dirty tables as wholes: hospitals that are repaired, and a census."""

import csv
import random
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.storage import files, hashing
from tests.cleaning.dirty_tables import cleaned, pointed
from tests.conftest import ROOT

DATA = ROOT.parent / "shared" / "data"
RECIPES = ROOT / "tests" / "recipes"


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
