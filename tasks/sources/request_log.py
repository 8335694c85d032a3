"""The model server's log: requests, predictions, and what people said about them afterwards.

Both kinds of files are JSON lines in UTF-8, one object a line, appended to and never changed:

    requests  {"id": "r1", "time": "2026-11-23T10:00:00Z", "model": "support-desk",
               "version": "3f0c…", "input": "where is my parcel", "label": "shipping",
               "probability": 0.93}
    feedback  {"id": "r1", "time": "2026-11-23T10:05:00Z", "label": "returns", "actor": "ann"}

`id`, `time`, `version` and `label` are texts, `probability` is a number from 0 to 1, `input` is a
text or an object with the fields of a table's row, and `time` is in UTC with a Z, so that texts
sort as moments do. The `id` of feedback is that of its request. The last feedback by time counts;
of equal times the one that was written later, with files in order of name. `actor` may be missing;
other keys are ignored.

A row has the columns id, time, text (or the fields of the input), predicted, probability, version,
label (from the feedback) and actor. A field with the name of one of these columns is called
`input.<name>`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from pydantic import JsonValue

from tasks.core.errors import StageError
from tasks.recipe.ingest import RequestLogSource
from tasks.sources import files
from tasks.sources.base import BrokenRow, RowBatch, SourcePartition
from tasks.sources.formats.file_content import FileContent, check_content
from tasks.sources.formats.json_lines import JsonObject, build_text_table, parse_objects
from tasks.storage import hashing

COLUMNS_BEFORE_CONTENT = ("id", "time")
COLUMNS_AFTER_CONTENT = ("predicted", "probability", "version", "label", "actor")
LOG_COLUMNS = COLUMNS_BEFORE_CONTENT + COLUMNS_AFTER_CONTENT
REQUEST_TEXT_KEYS = ("id", "time", "version", "label")
FEEDBACK_TEXT_KEYS = ("id", "time", "label")
TIME_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def iter_partitions(source: RequestLogSource) -> Iterator[SourcePartition]:
    """Yield each file of requests, then each file of feedback.

    The version of a file is its hash together with those of all files of the other kind, since
    feedback changes the rows of older requests.
    """
    requests = hash_log_files(source.path)
    feedback = hash_log_files(source.feedback or [])
    log = RequestLog(list(requests), list(feedback), with_unlabelled=source.unlabelled)
    for path, digest in requests.items():
        version = hashing.hash_json([digest, feedback])
        yield SourcePartition(path, version, partial(log.read_requests, path))
    for path, digest in feedback.items():
        version = hashing.hash_json([digest, requests])
        yield SourcePartition(path, version, partial(log.read_orphaned_feedback, path))


def hash_log_files(patterns: str | list[str]) -> dict[str, str]:
    """Return the hashes of the files of one kind, by path, in order of name."""
    paths = files.list_files(patterns) if patterns else []
    for path in paths:
        if FileContent(str(path), path).suffix != ".jsonl":
            raise StageError(
                f"{path} is not a .jsonl file, as logs of requests and feedback are: correct "
                "ingest.path or ingest.feedback."
            )
    return {str(path): hashing.sha256(path) for path in paths}


class RequestLog:
    """Files of requests and of feedback. Nothing is read before it is needed."""

    def __init__(
        self, request_paths: Sequence[str], feedback_paths: Sequence[str], *, with_unlabelled: bool
    ) -> None:
        """Take the files of both kinds in the order in which they are read."""
        self.request_paths = request_paths
        self.feedback_paths = feedback_paths
        self.with_unlabelled = with_unlabelled

    @cached_property
    def last_feedback(self) -> dict[str, JsonObject]:
        """The feedback that counts for each request, by the request's id."""
        entries: list[JsonObject] = []
        for path in self.feedback_paths:
            entries += read_feedback_entries(path, [])
        entries.sort(key=lambda entry: str(entry["time"]))
        return {str(entry["id"]): entry for entry in entries}

    @cached_property
    def request_ids(self) -> set[str]:
        """The ids of all requests."""
        ids: set[str] = set()
        for path in self.request_paths:
            ids |= {str(request["id"]) for request in read_request_entries(path, [])}
        return ids

    @cached_property
    def first_fields(self) -> list[str]:
        """The fields of the first request's content; a file without rows has their columns too."""
        for path in self.request_paths:
            for request in read_request_entries(path, []):
                return list(extract_content(request))
        return ["text"]

    def read_requests(self, path: str) -> Iterator[RowBatch]:
        """Yield the requests of a file that are rows, and the lines that are no requests."""
        broken: list[BrokenRow] = []
        rows = []
        for request in read_request_entries(path, broken):
            feedback = self.last_feedback.get(str(request["id"]))
            if feedback or self.with_unlabelled:
                rows.append(build_row(request, feedback or {}))
        yield self.build_batch(path, rows, broken)

    def read_orphaned_feedback(self, path: str) -> Iterator[RowBatch]:
        """Yield no row, but the lines of a file of feedback that belong to no request."""
        broken: list[BrokenRow] = []
        entries = list(read_feedback_entries(path, broken))
        for entry in entries:
            if entry["id"] not in self.request_ids:
                problem = "feedback for a request that is in no log"
                broken.append(BrokenRow(format_entry(entry), problem))
        yield self.build_batch(path, [], broken)

    def build_batch(self, path: str, rows: list[JsonObject], broken: list[BrokenRow]) -> RowBatch:
        """Return rows as a table, with the columns of their content in the order of appearance."""
        fields = dict.fromkeys(self.first_fields)
        for row in rows:
            fields |= dict.fromkeys(name for name in row if name not in LOG_COLUMNS)
        columns = [*COLUMNS_BEFORE_CONTENT, *fields, *COLUMNS_AFTER_CONTENT]
        return RowBatch(path, build_text_table(rows, columns), broken)


def read_request_entries(path: str, broken: list[BrokenRow]) -> Iterator[JsonObject]:
    """Yield the requests of a file; lines that are none are appended to `broken`."""
    for entry in read_objects(path, broken):
        problem = explain_invalid_request(entry)
        if problem:
            broken.append(BrokenRow(format_entry(entry), problem))
        else:
            yield entry


def read_feedback_entries(path: str, broken: list[BrokenRow]) -> Iterator[JsonObject]:
    """Yield the feedback of a file; lines that are none are appended to `broken`."""
    for entry in read_objects(path, broken):
        problem = explain_invalid_texts(entry, FEEDBACK_TEXT_KEYS)
        if problem:
            broken.append(BrokenRow(format_entry(entry), problem))
        else:
            yield entry


def read_objects(path: str, broken: list[BrokenRow]) -> Iterator[JsonObject]:
    """Yield the objects of a file of JSON lines."""
    file = FileContent(path, Path(path))
    check_content(file)
    text = file.read().decode("utf-8", "replace").removeprefix("\ufeff")
    return parse_objects(text, broken)


def explain_invalid_request(entry: JsonObject) -> str | None:
    """Return why an object is no request; None if it is one."""
    problem = explain_invalid_texts(entry, REQUEST_TEXT_KEYS)
    if problem:
        return problem
    content = entry.get("input")
    if not isinstance(content, (str, dict)) or content == {}:
        return "input is neither a text nor an object with fields"
    if not is_probability(entry.get("probability")):
        return "probability is not a number from 0 to 1"
    return None


def is_probability(value: JsonValue) -> bool:
    """Return whether a value is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= 1


def explain_invalid_texts(entry: JsonObject, keys: tuple[str, ...]) -> str | None:
    """Return which of the keys has no text, or that the time is written in another way."""
    for key in keys:
        text = entry.get(key)
        if not text or not isinstance(text, str):
            return f"{key} is missing or not a text"
    if not TIME_PATTERN.fullmatch(str(entry["time"])):
        return "time is not written as 2026-11-23T10:00:00Z"
    return None


def format_entry(entry: JsonObject) -> str:
    """Return an object as one line."""
    return json.dumps(entry, ensure_ascii=False, sort_keys=True)


def extract_content(request: JsonObject) -> JsonObject:
    """Return the columns of a request's input."""
    content = request["input"]
    if not isinstance(content, dict):
        return {"text": content}
    return {
        f"input.{name}" if name in LOG_COLUMNS else name: value for name, value in content.items()
    }


def build_row(request: JsonObject, feedback: JsonObject) -> JsonObject:
    """Return the row of a request and of its feedback, which may be empty."""
    return {
        **extract_content(request),
        "id": request["id"],
        "time": request["time"],
        "probability": request["probability"],
        "version": request["version"],
        "predicted": request["label"],
        "label": feedback.get("label"),
        "actor": feedback.get("actor"),
    }
