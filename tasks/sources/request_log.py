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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.core.errors import Failure
from tasks.recipe.ingest import Requests
from tasks.sources import files
from tasks.sources.base import Broken, Part, Rows
from tasks.sources.formats.file_content import Content, check
from tasks.sources.formats.json_lines import objects, table
from tasks.storage import hashing

OWN = ("id", "time", "predicted", "probability", "version", "label", "actor")
REQUEST, FEEDBACK = (
    ("id", "time", "version", "label"),
    ("id", "time", "label"),
)  # keys that are texts
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
Item = dict[str, Any]


def parts(source: Requests) -> Iterator[Part]:
    """One for each file. Its version is its hash together with those of the other kind, since feedback changes rows of older requests."""
    logs, said = (
        {str(path): hashing.sha256(path) for path in listed(paths)}
        for paths in (source.path, source.feedback)
    )
    rows = joined(source, list(logs), list(said))
    for ours, others in ((logs, said), (said, logs)):
        for name, version in ours.items():
            yield Part(
                name,
                hashing.digest([version, others]),
                lambda name=name: [next(found for found in rows if found.name == name)],
            )  # type: ignore[misc]


def listed(paths: str | list[str] | None) -> list[Path]:
    found = files.listed(paths) if paths is not None else []
    for path in found:
        if Content(str(path), path).kind != ".jsonl":
            raise Failure(
                f"{path} is not a .jsonl file, as logs of requests and feedback are: correct ingest.path or ingest.feedback."
            )
    return found


def joined(source: Requests, logs: list[str], said: list[str]) -> Iterator[Rows]:
    """The rows of each file of requests; then none for each file of feedback, only the lines that belong to no request."""
    broken: dict[str, Broken] = {path: [] for path in said}
    given = {path: list(lines(path, FEEDBACK, broken[path])) for path in said}
    last = {
        item["id"]: item
        for item in sorted(
            (item for items in given.values() for item in items), key=lambda item: item["time"]
        )
    }
    fields = next(
        (list(content_of(request)) for path in logs for request in lines(path, REQUEST, [])),
        ["text"],
    )
    known: set[str] = set()
    for path in logs:
        unread: Broken = []
        requests = list(lines(path, REQUEST, unread))
        known |= {request["id"] for request in requests}
        rows = [
            row_of(request, last.get(request["id"], {}))
            for request in requests
            if request["id"] in last or source.unlabelled
        ]
        fields = list(
            dict.fromkeys([*fields, *(name for row in rows for name in row if name not in OWN)])
        )
        yield Rows(path, table(rows, ["id", "time", *fields, *OWN[2:]]), unread)
    for path, items in given.items():
        broken[path] += [
            (written(item), "feedback for a request that is in no log")
            for item in items
            if item["id"] not in known
        ]
        yield Rows(path, table([], ["id", "time", *fields, *OWN[2:]]), broken[path])


def lines(path: str, texts: tuple[str, ...], broken: Broken) -> Iterator[Item]:
    """The requests or the feedback of a file; what is none is set aside."""
    file = Content(path, Path(path))
    check(file)
    for item in objects(file.read().decode("utf-8", "replace").removeprefix("\ufeff"), broken):
        if problem := wrong(item, texts):
            broken.append((written(item), problem))
        else:
            yield item


def wrong(item: Item, texts: tuple[str, ...]) -> str | None:
    for key in texts:
        if not isinstance(item.get(key), str) or not item[key]:
            return f"{key} is missing or not a text"
    if not TIME.fullmatch(item["time"]):
        return "time is not written as 2026-11-23T10:00:00Z"
    if texts == REQUEST and (not isinstance(item.get("input"), (str, dict)) or item["input"] == {}):
        return "input is neither a text nor an object with fields"
    if texts == REQUEST and (
        type(item.get("probability")) not in (int, float) or not 0 <= item["probability"] <= 1
    ):
        return "probability is not a number from 0 to 1"
    return None


def written(item: Item) -> str:
    return json.dumps(item, ensure_ascii=False, sort_keys=True)


def content_of(request: Item) -> Item:
    if isinstance(request["input"], str):
        return {"text": request["input"]}
    return {
        name if name not in OWN else f"input.{name}": value
        for name, value in request["input"].items()
    }


def row_of(request: Item, feedback: Item) -> Item:
    about = {
        "predicted": request["label"],
        "label": feedback.get("label"),
        "actor": feedback.get("actor"),
    }
    return {
        **content_of(request),
        **{key: request[key] for key in ("id", "time", "probability", "version")},
        **about,
    }
