"""Where labels come from, what happens to those that look wrong, and the queue for people."""

import base64
import csv
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import label
from tasks.core.errors import StageError
from tasks.labelling import review_queue
from tasks.labelling.resolve_labels import Doubt
from tasks.recipe.loading import read_recipe
from tasks.storage import files
from tasks.storage.layout import LabelledFolder, StagePaths

RECIPE = """name: desk
modality: text
ingest: {kind: files, path: source.csv}
columns: {id: id}
gate: [{rule: floor, metric: macro_f1, bound: 0.5}]
"""
GOODS = [
    "lamp",
    "chair",
    "table",
    "kettle",
    "carpet",
    "mirror",
    "clock",
    "shelf",
    "pillow",
    "blanket",
    "vase",
    "bench",
]
CLEAN = [
    (f"b{n}", f"the money for the {thing} was taken twice", "billing")
    for n, thing in enumerate(GOODS)
]
CLEAN += [
    (f"s{n}", f"where is the parcel with my {thing}, it never came", "shipping")
    for n, thing in enumerate(GOODS)
]
WRONG = ("w1", "the money for the sofa was taken twice", "shipping")


def run(
    here: Path, rows: list[tuple[str, str, str | None]], extra: str = "", answers: str = ""
) -> Path:
    """Label the rows; returns the folder of the results."""
    (here / "recipe.yaml").write_text(RECIPE + extra)
    (here / "answers.csv").write_bytes(answers.encode(errors="surrogateescape"))
    names, texts, labels = (list(column) for column in zip(*rows, strict=True))
    (here / "clean").mkdir(exist_ok=True)
    pq.write_table(
        pa.table({"id": names, "text": texts, "label": pa.array(labels, pa.string())}),
        here / "clean" / "rows.parquet",
    )
    label.run(read_recipe(here / "recipe.yaml"), StagePaths(here))
    return here / "labelled"


def labels(folder: Path) -> dict[str, tuple[str, str]]:
    table = pq.read_table(folder / "rows.parquet")
    return {row["id"]: (row["label"], row["label_source"]) for row in table.to_pylist()}


def queue(folder: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 30)
    with (folder / "review.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_wrong_label_is_found_and_flagged_dropped_or_replaced_and_no_row_is_lost(
    here: Path,
) -> None:
    for done, expected in (
        ("flag", ("shipping", "given")),
        ("drop", None),
        ("relabel", ("billing", "relabelled")),
    ):
        folder = run(here, [*CLEAN, WRONG], f"label: {{errors: {done}}}\n")
        report = files.read_json(folder / "report.json")
        assert (
            "Labels that look wrong: 1; their rows wait in the queue and were "
            in (folder / "index.html").read_text()
        )
        assert report["errors"] == {"count": 1, "action": done}
        assert labels(folder).get("w1") == expected
        assert report["rows"] + report["rejects"] == report["rows_in"] == len(CLEAN) + 1
        shown = [(row["id"], row["reason"], row["guess"]) for row in queue(folder)]
        assert shown == [("w1", "labelled shipping, looks like billing", "billing")]
    [confidence] = [
        row["label_confidence"]
        for row in pq.read_table(folder / "rows.parquet").to_pylist()
        if row["id"] == "w1"
    ]
    assert 0.5 < confidence < 1


def test_what_people_said_comes_before_the_source_and_is_not_doubted_again(here: Path) -> None:
    unlabelled = ("u1", "the money for the rug was taken twice", None)
    settings = "label: {errors: flag, answers: answers.csv}\n"
    folder = run(
        here, [*CLEAN, WRONG, unlabelled], settings, "id,label\nw1,billing\nu1,billing\ns3,\n"
    )
    assert labels(folder)["w1"] == labels(folder)["u1"] == ("billing", "people")
    assert labels(folder)["s3"] == ("shipping", "given")
    assert queue(folder) == []
    kept = run(here, [*CLEAN, WRONG], settings, "id,label\nw1,shipping\n")
    assert labels(kept)["w1"] == ("shipping", "people")
    assert queue(kept) == []


def test_the_queue_filled_in_is_the_file_of_answers(here: Path) -> None:
    folder = run(
        here,
        [*CLEAN, WRONG, ("u1", "the money for the rug was taken twice", None)],
        "label: {errors: flag}\n",
    )
    filled = (folder / "review.csv").read_text().replace(",\n", ",billing\n")
    assert [row["id"] for row in queue(folder)] == ["u1", "w1"]
    again = run(
        here,
        [*CLEAN, WRONG, ("u1", "the money for the rug was taken twice", None)],
        "label: {errors: flag, answers: answers.csv}\n",
        filled,
    )
    assert labels(again)["w1"] == labels(again)["u1"] == ("billing", "people")


def test_the_queue_is_read_back_whatever_its_texts_hold(here: Path) -> None:
    odd = [
        ("u1", "carriage\rreturn", None),
        ("u2", 'line\nend, "quoted"', None),
        ("u3", "long " * 40_000, None),
    ]
    folder = run(here, [*CLEAN, *odd], "label: {}\n")
    assert [(row["id"], row["text"]) for row in queue(folder)] == [
        (name, text) for name, text, _ in odd
    ]
    filled = (folder / "review.csv").read_bytes().decode().replace(",\r\n", ",billing\r\n")
    again = run(here, [*CLEAN, *odd], "label: {answers: answers.csv}\n", filled)
    assert queue(again) == []


VOTES = """label:
  functions:
    - {kind: lookup, file: table.csv, column: id, trusted: true}
    - {kind: keyword, words: [money, charged], label: billing}
    - {kind: keyword, words: [parcel], label: shipping}
    - {kind: regex, pattern: 'never c\\w+', label: shipping}
"""
MIXED: list[tuple[str, str, str | None]] = [
    ("m1", "the money for the parcel", None),
    ("m2", "charged for a parcel that never came", None),
    ("m3", "hello", None),
    ("m4", "my money", None),
    ("m5", "the parcel", "billing"),
    ("m6", "another parcel", None),
]


def test_the_source_and_trusted_functions_come_before_votes(
    here: Path,
) -> None:
    (here / "table.csv").write_text("id,label\nm5,shipping\nm6,billing\n")
    folder = run(here, MIXED, VOTES)
    assert labels(folder) == {
        "m2": ("shipping", "functions"),
        "m4": ("billing", "functions"),
        "m5": ("billing", "given"),
        "m6": ("billing", "lookup"),
    }
    confidence = pq.read_table(folder / "rows.parquet")["label_confidence"].to_pylist()
    assert [round(value, 3) for value in confidence] == [0.667, 1.0, 1.0, 1.0]
    assert [(row["id"], row["reason"], row["guess"]) for row in queue(folder)] == [
        ("m1", "functions are not sure: billing 0.50, shipping 0.50", ""),
        ("m3", "no function knows one", ""),
    ]
    rejects = pq.read_table(folder / "rejects.parquet").to_pylist()
    assert [(row["id"], row["rule"], row["detail"]) for row in rejects] == [
        (row["id"], "no label", row["reason"]) for row in queue(folder)
    ]


def test_a_higher_confidence_asks_for_agreement_and_the_queue_shows_the_guess(here: Path) -> None:
    (here / "table.csv").write_text("id,label\n")
    folder = run(here, MIXED, VOTES + "  confidence: 1.0\n")
    assert set(labels(folder)) == {"m4", "m5", "m6"}
    assert ("m2", "shipping") in [(row["id"], row["guess"]) for row in queue(folder)]


def test_the_report_and_its_page_tell_of_each_function_what_it_is_worth(here: Path) -> None:
    (here / "table.csv").write_text("id,label\nm5,shipping\nm6,billing\n")
    folder = run(here, MIXED, VOTES + "  model: dawid_skene\n")
    table, money, parcel, never = files.read_json(folder / "report.json")["functions"]
    counted = ("votes", "overlaps", "conflicts", "gold", "correct")
    assert [table[name] for name in counted] == [2, 2, 1, 1, 0]
    assert [parcel[name] for name in counted] == [4, 4, 3, 2, 0]
    assert (
        table["weight"] is None
        and parcel["estimated_accuracy"] < money["estimated_accuracy"] < 0.75
    )
    assert (
        money["coverage"] == 0.5
        and never["definition"] == "never c\\w+"
        and never["label"] == "shipping"
    )
    text = (folder / "index.html").read_text()
    assert "0 of 1" in text and "money, charged" in text
    assert not re.search(r"(src|href)=|@import|url\(", text)


def exported(tasks: list[Any], answers: dict[str, list[str]], cancelled: str = "") -> list[Any]:
    """Return the tasks as Label Studio exports them: its own numbers are their ids."""
    made = []
    for number, task in enumerate(tasks):
        annotations = [
            {
                "was_cancelled": label == cancelled,
                "result": [
                    {
                        "from_name": "label",
                        "to_name": "content",
                        "type": "choices",
                        "value": {"choices": [label]},
                    }
                ],
            }
            for label in answers.get(task["data"]["row"], [])
        ]
        made.append({"id": number + 100, "annotations": annotations, **task})
    return made


def short(tasks: list[Any]) -> list[Any]:
    """Return the same as JSON-MIN: the data's keys at the top, an entry for each annotation."""
    made = []
    for task in tasks:
        for item in task["annotations"] or [{"result": []}]:
            chosen = (
                {"label": item["result"][0]["value"]["choices"][0], "annotation_id": 7}
                if item["result"]
                else {"annotation_id": None}
            )
            made.append({**task["data"], "id": task["id"], **chosen})
    return made


@pytest.mark.parametrize("form", [list, short])
def test_label_studios_export_of_the_queue_answers_it(here: Path, form: Any) -> None:
    rows = [
        *CLEAN,
        WRONG,
        ("u1", "the money for the rug was taken twice", None),
        ("u2", 'hello <you> & "me"', None),
    ]
    folder = run(here, rows, "label: {errors: flag}\n")
    tasks = json.loads((folder / "review.labelstudio.json").read_text())
    assert [task["data"]["row"] for task in tasks] == ["u1", "u2", "w1"]
    assert tasks[1]["data"]["text"] == 'hello <you> & "me"'
    [prediction] = tasks[2]["predictions"]
    config = ElementTree.fromstring((folder / "review.labelstudio.xml").read_text())
    choices, content = config.find("Choices"), config.find("Text")
    assert choices is not None and content is not None
    assert (prediction["result"][0]["from_name"], prediction["result"][0]["to_name"]) == (
        choices.get("name"),
        content.get("name"),
    )
    assert [item.get("value") for item in choices] == ["billing", "shipping"]
    assert (
        prediction["result"][0]["value"]["choices"] == ["billing"]
        and content.get("value") == "$text"
    )
    (here / "tasks.json").write_text(
        json.dumps(form(exported(tasks, {"u1": ["billing"], "w1": ["shipping", "shipping"]})))
    )
    again = run(
        here,
        rows,
        "label: {errors: flag, answers: [tasks.json, answers.csv]}\n",
        "id,label\nu2,shipping\n",
    )
    assert [labels(again)[name] for name in ("u1", "u2", "w1")] == [
        ("billing", "people"),
        ("shipping", "people"),
        ("shipping", "people"),
    ]
    assert files.read_json(again / "report.json")["answers"] == {"total": 3, "used": 3}
    gone = run(
        here,
        [*CLEAN, WRONG],
        "label: {errors: flag, answers: [tasks.json, answers.csv]}\n",
        "id,label\nu2,shipping\n",
    )
    assert (
        "People labelled 3 rows, of which 2 are not in the data."
        in (gone / "index.html").read_text()
    )


@pytest.mark.parametrize(
    ("modality", "column", "tag"),
    [("image", b"\x89PNG bytes", "Image"), ("tabular", "rent", "Text")],
)
def test_the_queue_shows_images_and_cells_without_a_server(
    here: Path, modality: str, column: Any, tag: str
) -> None:
    (here / "recipe.yaml").write_text(RECIPE.replace("text", modality))
    rows = pa.table(
        {"id": ["a"], ("image" if modality == "image" else "kind"): [column], "label": [""]}
    )
    recipe = read_recipe(here / "recipe.yaml")
    items = review_queue.build_items(recipe, rows, [Doubt("no label", "")])
    review_queue.write_review_queue(LabelledFolder(here), recipe, items, ["x & y", "z"])
    [found] = json.loads((here / "review.labelstudio.json").read_text())
    shown = (
        {"image": "data:image/png;base64," + base64.b64encode(b"\x89PNG bytes").decode()}
        if modality == "image"
        else {"text": "kind: rent"}
    )
    assert (
        found["data"] == {"row": "a", "reason": "no label", **shown} and found["predictions"] == []
    )
    config = ElementTree.fromstring((here / "review.labelstudio.xml").read_text())
    assert [item.get("value") for item in config.iter("Choice")] == ["x & y", "z"]
    assert [item.get("value") for item in config.iter(tag)] == [
        f"${modality}" if modality == "image" else "$text"
    ]


def test_cancelled_annotations_are_no_answers(here: Path) -> None:
    tasks = [{"data": {"row": "u1"}}, {"data": {"id": "b1"}}]
    (here / "tasks.json").write_text(
        json.dumps(
            [
                *exported(tasks[:1], {"u1": ["billing", "skipped"]}, "skipped"),
                {"annotations": [], **tasks[1]},
            ]
        )
    )
    folder = run(here, [*CLEAN, ("u1", "no idea", None)], "label: {answers: tasks.json}\n")
    assert labels(folder)["u1"] == ("billing", "people")
    assert labels(folder)["b1"] == ("billing", "given")


def task(row: str, *choices: str, **result: Any) -> dict[str, Any]:
    value = {"from_name": "label", "value": {"choices": list(choices)}, **result}
    return {"data": {"row": row}, "annotations": [{"result": [value]}]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "id,label",
            r"tasks.json is not JSON \(.*\): export the project from Label Studio as JSON or "
            r"JSON-MIN.",
        ),
        ("{}", r"tasks.json is not a list of tasks: export the project"),
        (
            [{"id": 5, "data": {"text": "x"}}],
            r"tasks.json: task 5 does not name its row: import labelled/review.labelstudio.json, "
            r"and export that project.",
        ),
        ([{"id": 5, "text": "x", "label": "billing"}], r"tasks.json: task 5 does not name its row"),
        (
            [task("w1")],
            r"tasks.json: 'w1' has an annotation with no choices of `label`, not one: "
            r"correct it in Label Studio and export again.",
        ),
        (
            [task("w1", "billing", from_name="team")],
            r"tasks.json: 'w1' has an annotation with no choices of `label`",
        ),
        (
            [task("w1", "billing", "shipping")],
            r"tasks.json: 'w1' has an annotation with 2 choices of `label`",
        ),
        (
            [{"row": "w1", "id": 5, "annotation_id": 7}],
            r"tasks.json: 'w1' has an annotation with no choices of `label`",
        ),
        (
            [task("w1", "billing"), task("w1", "shipping")],
            r"tasks.json: 'w1' has the labels 'billing' and 'shipping': keep one.",
        ),
        (
            [task("w1", "biling")],
            r"tasks.json: 'w1' has the label 'biling', which is not among label.classes "
            r"\(did you mean billing\?\)",
        ),
        (
            [task("w1", "shipping")],
            r"answers.csv: 'w1' has the label 'billing', but 'shipping' in tasks.json: keep one.",
        ),
    ],
)
def test_an_export_that_cannot_be_used_ends_with_a_sentence(
    here: Path, content: Any, sentence: str
) -> None:
    (here / "tasks.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(StageError, match=sentence):
        run(
            here,
            [*CLEAN, WRONG],
            "label: {classes: [billing, shipping], answers: [tasks.json, answers.csv]}\n",
            "id,label\nw1,billing\n",
        )


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (
            "id,lable\nw1,billing\n",
            r"answers.csv: there is no column 'label'; it has id, lable: correct label.answers.",
        ),
        (
            "id,label\nw1,billing\nw1,shipping\n",
            r"answers.csv: 'w1' has the labels 'billing' and 'shipping': keep one.",
        ),
        (
            "id,label\nw1,caf\udce9\n",
            r"answers.csv is not a CSV file in UTF-8 \(.*0xe9.*\): save it as one.",
        ),
    ],
)
def test_answers_that_cannot_be_used_end_with_a_sentence(
    here: Path, answers: str, sentence: str
) -> None:
    with pytest.raises(StageError, match=sentence):
        run(here, [*CLEAN, WRONG], "label: {answers: answers.csv}\n", answers)
