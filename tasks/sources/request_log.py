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

from tasks.core.errors import StageError
from tasks.recipe.ingest import RequestLogSource
from tasks.sources import files
from tasks.sources.base import BrokenLines, RowBatch, SourcePartition
from tasks.sources.formats.file_content import FileContent, check_content
from tasks.sources.formats.json_lines import build_text_table, parse_objects
from tasks.storage import hashing

LOG_COLUMNS = ("id", "time", "predicted", "probability", "version", "label", "actor")
REQUEST_KEYS, FEEDBACK_KEYS = (
    ("id", "time", "version", "label"),
    ("id", "time", "label"),
)  # keys that are texts
TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
LogEntry = dict[str, Any]


def iter_partitions(source: RequestLogSource) -> Iterator[SourcePartition]:
    """One for each file. Its version is its hash together with those of the other kind, since feedback changes rows of older requests."""
    logs, said = (
        {str(path): hashing.sha256(path) for path in list_log_files(paths)}
        for paths in (source.path, source.feedback)
    )
    rows = join_feedback(source, list(logs), list(said))
    for ours, others in ((logs, said), (said, logs)):
        for name, version in ours.items():
            yield SourcePartition(
                name,
                hashing.hash_json([version, others]),
                lambda name=name: [next(found for found in rows if found.name == name)],
            )  # type: ignore[misc]


def list_log_files(paths: str | list[str] | None) -> list[Path]:
    found = files.list_files(paths) if paths is not None else []
    for path in found:
        if FileContent(str(path), path).kind != ".jsonl":
            raise StageError(
                f"{path} is not a .jsonl file, as logs of requests and feedback are: correct ingest.path or ingest.feedback."
            )
    return found


def join_feedback(source: RequestLogSource, logs: list[str], said: list[str]) -> Iterator[RowBatch]:
    """The rows of each file of requests; then none for each file of feedback, only the lines that belong to no request."""
    broken: dict[str, BrokenLines] = {path: [] for path in said}
    given = {path: list(read_entries(path, FEEDBACK_KEYS, broken[path])) for path in said}
    last = {
        item["id"]: item
        for item in sorted(
            (item for items in given.values() for item in items), key=lambda item: item["time"]
        )
    }
    fields = next(
        (
            list(extract_content(request))
            for path in logs
            for request in read_entries(path, REQUEST_KEYS, [])
        ),
        ["text"],
    )
    known: set[str] = set()
    for path in logs:
        unread: BrokenLines = []
        requests = list(read_entries(path, REQUEST_KEYS, unread))
        known |= {request["id"] for request in requests}
        rows = [
            build_row(request, last.get(request["id"], {}))
            for request in requests
            if request["id"] in last or source.unlabelled
        ]
        fields = list(
            dict.fromkeys(
                [*fields, *(name for row in rows for name in row if name not in LOG_COLUMNS)]
            )
        )
        yield RowBatch(
            path, build_text_table(rows, ["id", "time", *fields, *LOG_COLUMNS[2:]]), unread
        )
    for path, items in given.items():
        broken[path] += [
            (format_entry(item), "feedback for a request that is in no log")
            for item in items
            if item["id"] not in known
        ]
        yield RowBatch(
            path, build_text_table([], ["id", "time", *fields, *LOG_COLUMNS[2:]]), broken[path]
        )


def read_entries(path: str, texts: tuple[str, ...], broken: BrokenLines) -> Iterator[LogEntry]:
    """The requests or the feedback of a file; what is none is set aside."""
    file = FileContent(path, Path(path))
    check_content(file)
    for item in parse_objects(
        file.read().decode("utf-8", "replace").removeprefix("\ufeff"), broken
    ):
        if problem := explain_invalid(item, texts):
            broken.append((format_entry(item), problem))
        else:
            yield item


def explain_invalid(item: LogEntry, texts: tuple[str, ...]) -> str | None:
    for key in texts:
        if not isinstance(item.get(key), str) or not item[key]:
            return f"{key} is missing or not a text"
    if not TIME_PATTERN.fullmatch(item["time"]):
        return "time is not written as 2026-11-23T10:00:00Z"
    if texts == REQUEST_KEYS and (
        not isinstance(item.get("input"), (str, dict)) or item["input"] == {}
    ):
        return "input is neither a text nor an object with fields"
    if texts == REQUEST_KEYS and (
        type(item.get("probability")) not in (int, float) or not 0 <= item["probability"] <= 1
    ):
        return "probability is not a number from 0 to 1"
    return None


def format_entry(item: LogEntry) -> str:
    return json.dumps(item, ensure_ascii=False, sort_keys=True)


def extract_content(request: LogEntry) -> LogEntry:
    if isinstance(request["input"], str):
        return {"text": request["input"]}
    return {
        name if name not in LOG_COLUMNS else f"input.{name}": value
        for name, value in request["input"].items()
    }


def build_row(request: LogEntry, feedback: LogEntry) -> LogEntry:
    about = {
        "predicted": request["label"],
        "label": feedback.get("label"),
        "actor": feedback.get("actor"),
    }
    return {
        **extract_content(request),
        **{key: request[key] for key in ("id", "time", "probability", "version")},
        **about,
    }
