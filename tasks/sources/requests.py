"""The model server's log: what it was asked and answered, and what people said about it afterwards.

Both are JSON lines, UTF-8, one object a line, appended to and never changed:

    requests  {"id": "r1", "time": "2026-11-23T10:00:00Z", "model": "support-desk", "version": "3f0c…", "input": "where is my parcel",
               "label": "shipping", "probability": 0.93}
    feedback  {"id": "r1", "time": "2026-11-23T10:05:00Z", "label": "returns", "actor": "ann"}

`id`, `time`, `version` and `label` are texts, `probability` is a number from 0 to 1, `input` is a text or an object with the fields of a table's row,
`time` is in UTC with a Z, so that texts sort as moments do. A feedback's `id` is that of its request; the last feedback by time counts, of equal
times the one that was written later, files taken in order of name. `actor` may be missing; other keys are ignored.

A row has the columns id, time, text (or the fields of the input), predicted, probability, version, label (what people said) and actor. A field that
has the name of one of these columns is called `input.<name>`.
"""

import json
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import files as hashed
from tasks.recipe import Files, Requests
from tasks.sources import Partition, files
from tasks.sources.content import Content, check
from tasks.sources.jsonlines import objects
from tasks.step import Failure

OWN = ("id", "time", "predicted", "probability", "version", "label", "actor")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
Rows = Iterator[dict[str, Any]]


def fingerprint(source: Requests) -> dict[str, str]:
    """Each file's hash together with those of the other kind, since feedback changes rows of older requests."""
    logs, said = ({str(path): hashed.sha256(path) for path in listed(paths)} for paths in (source.path, source.feedback))
    return {name: digest(version, others) for ours, others in ((logs, said), (said, logs)) for name, version in ours.items()}


def digest(version: str, others: dict[str, str]) -> str:
    return hashed.digest([version, others])


def partitions(source: Requests, skip: Container[str] = ()) -> Iterator[Partition]:
    """A part for each file of requests; then one without rows for each file of feedback, which carries the lines that belong to no request."""
    versions, said = fingerprint(source), listed(source.feedback)
    broken: dict[Path, list[tuple[str, str]]] = {path: [] for path in said}
    last: dict[str, dict[str, Any]] = {}
    for path in said:
        for feedback in lines(path, ("id", "time", "label"), broken[path]):
            if feedback["id"] not in last or feedback["time"] >= last[feedback["id"]]["time"]:
                last[feedback["id"]] = feedback
    known: set[str] = set()
    fields = next((list(content_of(request)) for path in listed(source.path) for request in asked(path, [])), ["text"])
    for path in listed(source.path):
        unread: list[tuple[str, str]] = []
        rows = []
        for request in asked(path, unread):
            known.add(request["id"])
            feedback = last.get(request["id"], {})
            if feedback or source.unlabelled:
                rows.append(row_of(request, feedback))
        fields = list(dict.fromkeys([*fields, *(name for row in rows for name in row if name not in OWN)]))
        yield Partition(str(path), versions[str(path)], table(rows, fields), unread)
    for path in said:
        for feedback in lines(path, ("id", "time", "label"), []):
            if feedback["id"] not in known:
                broken[path].append((json.dumps(feedback, ensure_ascii=False, sort_keys=True), "feedback for a request that is in no log"))
        yield Partition(str(path), versions[str(path)], table([], fields), broken[path])


def listed(paths: str | list[str] | None) -> list[Path]:
    found = files.listed(Files(kind="files", path=paths)) if paths is not None else []
    other = [path for path in found if Content(str(path), path).kind != ".jsonl"]
    if other:
        raise Failure(f"{other[0]} is not a .jsonl file, as logs of requests and feedback are: correct ingest.path or ingest.feedback.")
    return found


def asked(path: Path, broken: list[tuple[str, str]]) -> Rows:
    for request in lines(path, ("id", "time", "version", "label"), broken):
        problem = None
        if not isinstance(request.get("input"), (str, dict)) or request["input"] == {}:
            problem = "input is neither a text nor an object with fields"
        elif isinstance(request.get("probability"), bool) or not isinstance(request.get("probability"), (int, float)) or not 0 <= request["probability"] <= 1:
            problem = "probability is not a number from 0 to 1"
        if problem:
            broken.append((json.dumps(request, ensure_ascii=False, sort_keys=True), problem))
        else:
            yield request


def lines(path: Path, texts: tuple[str, ...], broken: list[tuple[str, str]]) -> Rows:
    """The objects of a log whose keys `texts` are texts, and whose time is one; others are set aside."""
    file = Content(str(path), path)
    check(file)
    for item in objects(file.read().decode("utf-8", "replace").removeprefix("\ufeff"), broken):
        wrong = next((key for key in texts if not isinstance(item.get(key), str) or not item[key]), None)
        if wrong:
            broken.append((json.dumps(item, ensure_ascii=False, sort_keys=True), f"{wrong} is missing or not a text"))
        elif not TIME.fullmatch(item["time"]):
            broken.append((json.dumps(item, ensure_ascii=False, sort_keys=True), "time is not written as 2026-11-23T10:00:00Z"))
        else:
            yield item


def content_of(request: dict[str, Any]) -> dict[str, Any]:
    if isinstance(request["input"], str):
        return {"text": request["input"]}
    return {name if name not in OWN else f"input.{name}": value for name, value in request["input"].items()}


def row_of(request: dict[str, Any], feedback: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": request["id"], "time": request["time"], **content_of(request), "predicted": request["label"], "probability": request["probability"],
        "version": request["version"], "label": feedback.get("label"), "actor": feedback.get("actor"),
    }  # fmt: skip


def table(rows: list[dict[str, Any]], fields: list[str]) -> pa.Table:
    """All cells as text, nested ones as JSON."""
    names = ["id", "time", *fields, *OWN[2:]]
    return pa.table({name: pa.array([text_of(row.get(name)) for row in rows], pa.string()) for name in names})


def text_of(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
