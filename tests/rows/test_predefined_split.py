"""Predefined splits: rows stay in the part that the source names, and what is missing is cut."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks import split
from tasks.core.errors import StageError
from tasks.rows.split_names import parse_split_name
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths
from tests.data_stages import build_recipe
from tests.rows.test_split import row

SOURCE = {"kind": "files", "path": "rows.csv"}
USUAL = {"train": 60, "test": 30}


def ran(folder: Path, counts: dict[str | None, int], config: dict[str, Any]) -> dict[str, str]:
    """Split rows of which so many have each value; return the split of each that is in one."""
    values: list[str | None] = []
    for value, count in counts.items():
        values += [value] * count
    rows = [{**row(number), "part": value} for number, value in enumerate(values)]
    columns = {name: pa.array([item[name] for item in rows], pa.string()) for name in rows[0]}
    files.write_table(folder / "labelled" / "rows.parquet", pa.table(columns))
    split.run(build_recipe("text", ingest=SOURCE, split=config), StagePaths(folder))
    return {
        name: part
        for part in layout.SPLITS
        for name in files.read_table(folder / "split" / f"{part}.parquet")["id"].to_pylist()
    }


def report(folder: Path) -> Any:
    return files.read_json(folder / "split" / "report.json")


@pytest.mark.parametrize(
    ("counts", "config", "expected", "cut"),
    [
        (
            {"train": 60, "val": 10, "test": 30},
            {"column": "part"},
            {"train": 60, "val": 10, "test": 30},
            [],
        ),
        (
            {"Training": 60, "dev": 10, "Test Set": 30},
            {"column": "part"},
            {"train": 60, "val": 10, "test": 30},
            [],
        ),
        (
            {"0": 60, "1": 10, "2": 30},
            {"column": "part", "train": [0], "val": 1, "test": 2},
            {"train": 60, "val": 10, "test": 30},
            [],
        ),
        (
            {"a": 30, "b": 30, "c": 30},
            {"column": "part", "train": ["a", "b"], "val": 0.2, "test": ["c"]},
            {"test": 30},
            ["20% of those of train are cut off for it (split.val)"],
        ),
        ({"train": 60, "test": 30}, {"column": "part"}, {"test": 30}, ["10%"]),
        ({"train": 90}, {"column": "part"}, {}, ["15%", "10%"]),
    ],
)
def test_each_part_keeps_its_rows_and_missing_ones_are_cut_from_train(
    here: Path,
    counts: dict[str | None, int],
    config: dict[str, Any],
    expected: dict[str, int],
    cut: list[str],
) -> None:
    ran(here, counts, config)
    sizes = report(here)["rows_by_split"]
    assert {name: sizes[name] for name in expected} == expected
    assert min(sizes.values()) > 0
    warnings = report(here)["warnings"]
    assert len(warnings) == len(cut)
    assert all(text in " ".join(warnings) for text in cut)


def test_rows_in_no_part_are_rejected_with_what_the_source_says(here: Path) -> None:
    placed = ran(here, {"train": 60, "test": 30, "extra": 2, " ": 1, None: 1}, {"column": "part"})
    assert len(placed) == 90
    rejects = files.read_table(here / "split" / "rejects.parquet").to_pylist()
    assert [(item["rule"], item["detail"]) for item in rejects] == [
        ("in no part", "the column 'part' is 'extra'"),
        ("in no part", "the column 'part' is 'extra'"),
        ("in no part", "the column 'part' is empty"),
        ("in no part", "the column 'part' is empty"),
    ]


def test_rows_cut_from_train_stay_when_others_come(here: Path) -> None:
    before = ran(here, {"train": 60, "test": 30}, {"column": "part"})
    after = ran(here, {"train": 60, "test": 60}, {"column": "part"})
    common = {name: part for name, part in before.items() if part != "test"}
    assert {name: after[name] for name in common} == common


@pytest.mark.parametrize(
    ("counts", "config", "sentence"),
    [
        (
            {"x": 60, "y": 30},
            {"column": "part"},
            r"split.column: no value of 'part' names the rows of train; it has 'x', 'y': write "
            r"which are which, as in split: \{column: part, train: \[a, b\], test: \[c\]\}",
        ),
        (
            {"train": 60, "test": 30},
            {"column": "part", "train": ["trian"]},
            r"split.train: no row has 'trian' in the column 'part' \(did you mean train\?\); it "
            r"has 'train', 'test'",
        ),
        (USUAL, {"column": "prat"}, r"split.column: the data has no column 'prat'"),
    ],
)
def test_a_part_that_nothing_names_ends_with_a_sentence(
    here: Path, counts: dict[str | None, int], config: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StageError, match=sentence):
        ran(here, counts, config)


def test_names_of_parts_are_known_and_others_are_not() -> None:
    known = ["train", "Train_Images", "TRAINING", "val2017", "valid", "dev-set", "test.csv"]
    parts = [parse_split_name(name) for name in known]
    assert parts == ["train", "train", "train", "val", "val", "val", "test"]
    unknown = ["trains", "bus", "seg_train", "train_test", "2019", ""]
    assert [parse_split_name(name) for name in unknown] == [None] * len(unknown)
