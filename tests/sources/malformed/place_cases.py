"""Folders, images, data sets and logs with something wrong in them."""

import gzip
import os

import numpy as np
from pydantic import JsonValue

from tests.sources.malformed.builders import (
    build_huge_png,
    build_jsonl,
    build_png,
    link_to_nothing,
    write_locked,
)
from tests.sources.malformed.case import CONFIG_ERROR, GOOD, Case, labels, refused
from tests.sources.malformed.file_cases import NOISE
from tests.sources.test_images import encode_idx

PICTURES = encode_idx(np.zeros((2, 4, 4), np.uint8))
NUMBERS = encode_idx(np.zeros(2, np.uint8))
IDX_SOURCE: dict[str, JsonValue] = {"kind": "images", "path": "x", "labels": "y"}
IMAGES: dict[str, JsonValue] = {"modality": "image"}
REQUEST = {
    "id": "1",
    "time": "2026-11-23T10:00:00Z",
    "version": "v",
    "input": "first",
    "label": "no",
    "probability": 0.5,
}
FEEDBACK = {"id": "1", "time": "2026-11-23T11:00:00Z", "label": "yes", "actor": "ann"}
LOG_SOURCE: dict[str, JsonValue] = {
    "kind": "request_log",
    "path": "log.jsonl",
    "feedback": "said.jsonl",
}


PATH_CASES = [
    Case(
        "one of several files empty",
        {"a.csv": GOOD, "b.csv": b""},
        {"path": "*.csv"},
        "b.csv is empty",
    ),
    Case(
        "one of several files without rows",
        {"a.csv": GOOD, "b.csv": b"id,text,label\n"},
        {"path": "*.csv"},
        rows=2,
    ),
    Case(
        "one of several files with other columns",
        {"a.csv": GOOD, "b.csv": b"id,txt,label\n3,c,no\n"},
        {"path": "*.csv"},
        r"b.csv: there is no column 'text' \(did you",
    ),
    Case(
        "folder without files", {"in/.keep": b""}, {"path": "in"}, "ingest.path: in matches no file"
    ),
    Case("pattern without match", {}, {"path": "*.csv"}, r"ingest.path: \*.csv matches no file"),
    Case(
        "folder that is named like a file",
        {"rows.csv/.keep": b""},
        {"path": "*.csv"},
        r"ingest.path: \*.csv matches no file",
    ),
    refused(
        "link to nothing",
        "rows.csv",
        link_to_nothing,
        "rows.csv is not a file but a link to one that is gone",
    ),
    Case(
        "link to nothing in a folder",
        {"in/a.csv": GOOD, "in/b.csv": link_to_nothing},
        {"path": "in"},
        "in/b.csv is not a file but a link",
    ),
    refused("pipe", "rows.csv", os.mkfifo, "rows.csv is not a file"),
    refused(
        "unreadable file",
        "rows.csv",
        write_locked,
        "ingest could not read or write at .*rows.csv: Permission denied",
    ),
    Case(
        "name that is no text",
        {os.fsdecode(b"r\xffws.csv"): GOOD},
        {"path": "*.csv"},
        "the name of this file is not UTF-8 text: rename it",
    ),
    Case(
        "control character in the recipe",
        {},
        {"path": "\x00CONTROL"},
        "recipe.yaml: not valid YAML",
        CONFIG_ERROR,
    ),
]

IMAGE_CASES = [
    Case(
        "images that are none",
        {
            "in/cat/1.png": build_png(),
            "in/cat/2.png": build_png()[:-30],
            "in/cat/3.jpg": b"not an image",
            "in/cat/4.png": build_huge_png(),
            "in/cat/5.png": b"",
        },
        {"kind": "images", "path": "in"},
        rows=1,
        rules={"broken row": 4},
        recipe=IMAGES,
    ),
    Case(
        "images without folders",
        {"in/1.png": build_png()},
        {"kind": "images", "path": "in"},
        "in holds no folders",
        recipe=IMAGES,
    ),
    Case(
        "IDX cut off",
        {"x": PICTURES[:-5], "y": NUMBERS},
        IDX_SOURCE,
        "x has 43 bytes where its header",
        recipe=IMAGES,
    ),
    Case(
        "IDX that is something else",
        {"x": NOISE, "y": NUMBERS},
        IDX_SOURCE,
        "x is not an IDX file",
        recipe=IMAGES,
    ),
    Case(
        "IDX empty",
        {"x": b"", "y": NUMBERS},
        IDX_SOURCE,
        "x is not an IDX file .* begins with nothing",
        recipe=IMAGES,
    ),
    Case(
        "IDX of another length",
        {"x": PICTURES, "y": encode_idx(np.zeros(3, np.uint8))},
        IDX_SOURCE,
        "do not belong together",
        recipe=IMAGES,
    ),
    Case(
        "IDX bomb",
        {"x": gzip.compress(b"\0" * 5_000_000), "y": NUMBERS},
        IDX_SOURCE,
        "x expands to more than",
        recipe=IMAGES,
    ),
    Case(
        "IDX gzip cut off",
        {"x": gzip.compress(PICTURES)[:-9], "y": NUMBERS},
        IDX_SOURCE,
        "x is cut off or not gzip",
        recipe=IMAGES,
    ),
]

LOG_CASES = [
    Case(
        "folder that is no data set",
        {"folder/data.bin": b"x"},
        {"kind": "huggingface", "name": "folder"},
        "folder cannot be read as a data set",
    ),
    Case(
        "data set that is not there",
        {},
        {"kind": "huggingface", "name": "not/here/at all"},
        "not/here/at all is neither a folder here nor a name on the Hub",
    ),
    Case(
        "log of requests with broken lines",
        {
            "log.jsonl": build_jsonl(REQUEST, '{"id": "2', {**REQUEST, "id": "3", "input": None}),
            "said.jsonl": build_jsonl(FEEDBACK, {**FEEDBACK, "id": "9"}),
        },
        LOG_SOURCE,
        rows=1,
        rules={"broken row": 3},
        check=labels("yes"),
    ),
    Case(
        "log of requests without feedback",
        {"log.jsonl": build_jsonl(REQUEST), "said.jsonl": build_jsonl({**FEEDBACK, "id": "9"})},
        LOG_SOURCE,
        "log.jsonl, said.jsonl holds? no rows",
    ),
]
