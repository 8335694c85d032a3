"""The model server's log: a row for each request with feedback, and nothing lost."""

import json
import operator
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.core.errors import StageError
from tasks.recipe.ingest import RequestLogSource
from tasks.sources import iter_partitions, list_partition_versions
from tests.conftest import read_batches


def request(number: int, **changes: object) -> dict[str, object]:
    fixed = {
        "id": f"r{number}",
        "time": f"2026-11-23T10:00:0{number}Z",
        "model": "desk",
        "version": "3f0c",
    }
    return {**fixed, "input": f"text {number}", "label": "shipping", "probability": 0.75, **changes}


def feedback(number: int, label: str, minute: int = 1, **changes: object) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "time": f"2026-11-23T11:{minute:02d}:00Z",
        "label": label,
        "actor": "ann",
        **changes,
    }


def write_log(path: Path, *lines: object) -> None:
    path.parent.mkdir(exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join([*texts, ""]))


def source(**settings: object) -> RequestLogSource:
    return RequestLogSource.model_validate(
        {"kind": "request_log", "path": "logs/*.jsonl", "feedback": "feedback/*.jsonl", **settings}
    )


def read(source: RequestLogSource) -> tuple[list[dict[str, object]], list[str]]:
    """All rows, and what is wrong with each line that is none."""
    rows: list[dict[str, object]] = []
    problems: list[str] = []
    for batch in read_batches(source):
        rows += batch.table.to_pylist()
        problems += [row.problem for row in batch.broken]
    return rows, problems


def test_each_request_with_feedback_is_a_row_with_the_last_label(here: Path) -> None:
    write_log(here / "logs/1.jsonl", request(1), request(2), request(3))
    write_log(here / "logs/2.jsonl", request(4))
    write_log(here / "feedback/1.jsonl", feedback(1, "late", 30), feedback(4, "billing"))
    write_log(
        here / "feedback/2.jsonl",
        feedback(1, "early", 5),
        feedback(3, "one", 7),
        feedback(3, "two", 7, actor=None),
    )
    rows, problems = read(source())
    assert [(row["id"], row["label"], row["actor"]) for row in rows] == [
        ("r1", "late", "ann"),
        ("r3", "two", None),
        ("r4", "billing", "ann"),
    ]
    assert rows[0] == {
        "id": "r1",
        "time": "2026-11-23T10:00:01Z",
        "text": "text 1",
        "predicted": "shipping",
        "probability": "0.75",
        "version": "3f0c",
        "label": "late",
        "actor": "ann",
    }
    assert problems == []


def test_requests_without_feedback_are_rows_if_they_are_wanted(here: Path) -> None:
    write_log(here / "logs/1.jsonl", request(1), request(2))
    write_log(here / "feedback/1.jsonl", feedback(2, "billing"))
    rows, _ = read(source(unlabelled=True))
    assert [(row["id"], row["label"]) for row in rows] == [("r1", None), ("r2", "billing")]
    rows, _ = read(source(unlabelled=True, feedback=None))
    assert [(row["id"], row["label"]) for row in rows] == [("r1", None), ("r2", None)]


def test_an_objects_fields_are_columns_and_never_hide_those_of_the_log(here: Path) -> None:
    write_log(
        here / "logs/1.jsonl",
        request(1, input={"age": 41, "id": "customer", "pets": ["cat"]}),
        request(2, input={"age": None, "new": True}),
    )
    write_log(here / "feedback/1.jsonl", feedback(1, "yes"), feedback(2, "no"))
    rows, _ = read(source())
    read_content = operator.itemgetter("id", "age", "input.id", "pets", "new")
    assert [read_content(row) for row in rows] == [
        ("r1", "41", "customer", '["cat"]', None),
        ("r2", None, None, None, "true"),
    ]
    assert "text" not in rows[0]


def test_lines_that_are_none_and_feedback_for_unknown_requests_are_set_aside(here: Path) -> None:
    write_log(
        here / "logs/1.jsonl",
        '{"id": "r1", "ti',
        request(2, input=5),
        request(3, probability=2),
        request(4, time="yesterday"),
        request(5, label=None),
        request(6),
    )
    write_log(
        here / "feedback/1.jsonl",
        feedback(6, "billing"),
        feedback(9, "lost"),
        feedback(6, ""),
        "[]",
    )
    rows, problems = read(source())
    assert [row["id"] for row in rows] == ["r6"]
    assert len(problems) == 8
    for expected in (
        "line 1: Unterminated string",
        "input is neither a text nor an object",
        "probability is not a number from 0 to 1",
        "time is not written as",
        "label is missing or not a text",
        "feedback for a request that is in no log",
        "line 4: list where an object is expected",
    ):
        assert any(expected in problem for problem in problems)


def test_new_feedback_changes_the_version_of_the_requests(here: Path) -> None:
    write_log(here / "logs/1.jsonl", request(1))
    write_log(here / "feedback/1.jsonl", feedback(1, "billing"))
    before = list_partition_versions(source())
    assert (
        list(before)
        == [part.name for part in read_batches(source())]
        == ["logs/1.jsonl", "feedback/1.jsonl"]
    )
    assert list_partition_versions(source()) == before
    write_log(here / "feedback/1.jsonl", feedback(1, "shipping"))
    assert list_partition_versions(source())["logs/1.jsonl"] != before["logs/1.jsonl"]


def test_a_part_may_be_read_again_and_out_of_order(here: Path) -> None:
    write_log(here / "logs/1.jsonl", request(1))
    write_log(here / "logs/2.jsonl", request(2), request(3))
    write_log(here / "feedback/1.jsonl", feedback(1, "late"), feedback(3, "billing"))
    first, second, orphans = iter_partitions(source())
    for part, ids in ((second, ["r3"]), (orphans, []), (first, ["r1"]), (second, ["r3"])):
        [batch] = part.read()
        assert batch.table["id"].to_pylist() == ids


def test_the_columns_of_a_log_do_not_depend_on_earlier_ones(here: Path) -> None:
    write_log(here / "logs/1.jsonl", request(1, input={"age": 1}), request(2, input={"pet": "cat"}))
    write_log(here / "logs/2.jsonl", request(3, input={"age": 3}))
    _, second = iter_partitions(source(unlabelled=True, feedback=None))
    [batch] = second.read()
    assert "age" in batch.table.column_names
    assert "pet" not in batch.table.column_names


def test_a_log_that_is_no_json_lines_and_a_recipe_without_labels_are_refused(here: Path) -> None:
    write_log(here / "logs/1.csv", "id,text")
    with pytest.raises(
        StageError, match=r"logs/1.csv is not a .jsonl file, as logs of requests and feedback are"
    ):
        list(read_batches(source(path="logs/1.csv", feedback=None, unlabelled=True)))
    with pytest.raises(ValidationError, match="without feedback no request has a label"):
        source(feedback=None)
