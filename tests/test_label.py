"""Where labels come from, and what happens to those that look wrong."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import files, label
from tasks.recipe import read
from tasks.step import Failure

RECIPE = """name: desk
modality: text
ingest: {kind: files, path: source.csv}
columns: {id: id}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""
GOODS = ["lamp", "chair", "table", "kettle", "carpet", "mirror", "clock", "shelf", "pillow", "blanket", "vase", "bench"]
CLEAN = [(f"b{n}", f"the money for the {thing} was taken twice", "billing") for n, thing in enumerate(GOODS)]
CLEAN += [(f"s{n}", f"where is the parcel with my {thing}, it never came", "shipping") for n, thing in enumerate(GOODS)]
WRONG = ("w1", "the money for the sofa was taken twice", "shipping")


def run(here: Path, rows: list[tuple[str, str, str | None]], extra: str = "", answers: str = "") -> Path:
    """Label the rows; returns the folder of the results."""
    (here / "recipe.yaml").write_text(RECIPE + extra)
    (here / "answers.csv").write_text(answers)
    names, texts, labels = (list(column) for column in zip(*rows, strict=True))
    (here / "clean").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": names, "text": texts, "label": pa.array(labels, pa.string())}), here / "clean" / "rows.parquet")
    label.run(read(here / "recipe.yaml"), here / "clean", here / "labelled")
    return here / "labelled"


def labels(folder: Path) -> dict[str, tuple[str, str]]:
    table = pq.read_table(folder / "rows.parquet")
    return {row["id"]: (row["label"], row["label_source"]) for row in table.to_pylist()}


def queue(folder: Path) -> list[dict[str, str]]:
    with (folder / "review.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_wrong_label_is_found_and_flagged_dropped_or_replaced_and_no_row_is_lost(here: Path) -> None:
    for done, expected in (("flag", ("shipping", "given")), ("drop", None), ("relabel", ("billing", "relabelled"))):
        folder = run(here, [*CLEAN, WRONG], f"label: {{errors: {done}}}\n")
        report = files.read_json(folder / "report.json")
        assert report["errors"] == {"found": 1, "done": done}
        assert labels(folder).get("w1") == expected
        assert report["rows"] + report["rejects"] == report["rows_in"] == len(CLEAN) + 1
        shown = [(row["id"], row["why"], row["guess"]) for row in queue(folder)]
        assert shown == ([] if done == "relabel" else [("w1", "labelled shipping, looks like billing", "billing")])


def test_what_people_said_comes_before_the_source_and_is_not_doubted_again(here: Path) -> None:
    unlabelled = ("u1", "the money for the rug was taken twice", None)
    settings = "label: {errors: flag, answers: answers.csv}\n"
    folder = run(here, [*CLEAN, WRONG, unlabelled], settings, "id,label\nw1,billing\nu1,billing\ns3,\n")
    assert labels(folder)["w1"] == labels(folder)["u1"] == ("billing", "people")
    assert labels(folder)["s3"] == ("shipping", "given")
    assert queue(folder) == []
    kept = run(here, [*CLEAN, WRONG], settings, "id,label\nw1,shipping\n")
    assert labels(kept)["w1"] == ("shipping", "people")
    assert queue(kept) == []


def test_the_queue_filled_in_is_the_file_of_answers(here: Path) -> None:
    folder = run(here, [*CLEAN, WRONG, ("u1", "the money for the rug was taken twice", None)], "label: {errors: flag}\n")
    filled = (folder / "review.csv").read_text().replace(",\n", ",billing\n")
    assert [row["id"] for row in queue(folder)] == ["u1", "w1"]
    again = run(here, [*CLEAN, WRONG, ("u1", "the money for the rug was taken twice", None)], "label: {errors: flag, answers: answers.csv}\n", filled)
    assert labels(again)["w1"] == labels(again)["u1"] == ("billing", "people")


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ("id,lable\nw1,billing\n", r"answers.csv: there is no column 'label'; it has id, lable: correct label.answers."),
        ("id,label\nw1,billing\nw1,shipping\n", r"answers.csv: 'w1' has the labels 'billing' and 'shipping': keep one."),
    ],
)
def test_answers_that_cannot_be_used_end_with_a_sentence(here: Path, answers: str, sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        run(here, [*CLEAN, WRONG], "label: {answers: answers.csv}\n", answers)
