"""The model server's log: a row for each request that people said something about, and nothing lost."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.core.errors import StageError
from tasks.recipe.ingest import RequestLogSource
from tasks.sources import list_partition_versions
from tests.conftest import partitions


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


def log(path: Path, *lines: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    )


def source(**settings: object) -> RequestLogSource:
    return RequestLogSource.model_validate(
        {"kind": "request_log", "path": "logs/*.jsonl", "feedback": "feedback/*.jsonl", **settings}
    )


def read(made: RequestLogSource) -> tuple[list[dict[str, object]], list[str]]:
    found = list(partitions(made))
    return [row for part in found for row in part.table.to_pylist()], [
        why for part in found for _, why in part.broken
    ]


def test_each_request_with_feedback_is_a_row_with_what_was_said_last(here: Path) -> None:
    log(here / "logs/1.jsonl", request(1), request(2), request(3))
    log(here / "logs/2.jsonl", request(4))
    log(here / "feedback/1.jsonl", feedback(1, "late", 30), feedback(4, "billing"))
    log(
        here / "feedback/2.jsonl",
        feedback(1, "early", 5),
        feedback(3, "one", 7),
        feedback(3, "two", 7, actor=None),
    )
    rows, broken = read(source())
    assert [(row["id"], row["label"], row["actor"]) for row in rows] == [
        ("r1", "late", "ann"),
        ("r3", "two", None),
        ("r4", "billing", "ann"),
    ]
    assert rows[0] == {
        "id": "r1", "time": "2026-11-23T10:00:01Z", "text": "text 1", "predicted": "shipping", "probability": "0.75", "version": "3f0c",
        "label": "late", "actor": "ann",
    }  # fmt: skip
    assert broken == []


def test_requests_without_feedback_are_rows_without_label_where_they_are_wanted(here: Path) -> None:
    log(here / "logs/1.jsonl", request(1), request(2))
    log(here / "feedback/1.jsonl", feedback(2, "billing"))
    rows, _ = read(source(unlabelled=True))
    assert [(row["id"], row["label"]) for row in rows] == [("r1", None), ("r2", "billing")]
    rows, _ = read(source(unlabelled=True, feedback=None))
    assert [(row["id"], row["label"]) for row in rows] == [("r1", None), ("r2", None)]


def test_an_objects_fields_are_columns_and_never_hide_those_of_the_log(here: Path) -> None:
    log(
        here / "logs/1.jsonl",
        request(1, input={"age": 41, "id": "customer", "pets": ["cat"]}),
        request(2, input={"age": None, "new": True}),
    )
    log(here / "feedback/1.jsonl", feedback(1, "yes"), feedback(2, "no"))
    rows, _ = read(source())
    assert [[row[name] for name in ("id", "age", "input.id", "pets", "new")] for row in rows] == [
        ["r1", "41", "customer", '["cat"]', None], ["r2", None, None, None, "true"],
    ]  # fmt: skip
    assert "text" not in rows[0]


def test_lines_that_are_none_and_feedback_for_unknown_requests_are_set_aside(here: Path) -> None:
    log(
        here / "logs/1.jsonl",
        '{"id": "r1", "ti',
        request(2, input=5),
        request(3, probability=2),
        request(4, time="yesterday"),
        request(5, label=None),
        request(6),
    )
    log(
        here / "feedback/1.jsonl",
        feedback(6, "billing"),
        feedback(9, "lost"),
        feedback(6, ""),
        "[]",
    )
    rows, broken = read(source())
    assert [row["id"] for row in rows] == ["r6"]
    assert len(broken) == 8
    for expected in (
        "line 1: Unterminated string", "input is neither a text nor an object", "probability is not a number from 0 to 1", "time is not written as",
        "label is missing or not a text", "feedback for a request that is in no log", "line 4: list where an object is expected",
    ):  # fmt: skip
        assert any(expected in why for why in broken)


def test_new_feedback_changes_the_version_of_the_requests(here: Path) -> None:
    log(here / "logs/1.jsonl", request(1))
    log(here / "feedback/1.jsonl", feedback(1, "billing"))
    before = list_partition_versions(source())
    assert (
        list(before)
        == [part.name for part in partitions(source())]
        == ["logs/1.jsonl", "feedback/1.jsonl"]
    )
    assert list_partition_versions(source()) == before
    log(here / "feedback/1.jsonl", feedback(1, "shipping"))
    assert list_partition_versions(source())["logs/1.jsonl"] != before["logs/1.jsonl"]


def test_a_log_that_is_no_json_lines_and_a_recipe_without_labels_are_refused(here: Path) -> None:
    log(here / "logs/1.csv", "id,text")
    with pytest.raises(
        StageError, match=r"logs/1.csv is not a .jsonl file, as logs of requests and feedback are"
    ):
        list(partitions(source(path="logs/1.csv", feedback=None, unlabelled=True)))
    with pytest.raises(ValidationError, match="without feedback no request has a label"):
        source(feedback=None)
