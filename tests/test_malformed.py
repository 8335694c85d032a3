"""Malformed inputs, each through the ingest step as a person meets it: a sentence, or rows that are set aside and counted; never a traceback or a password."""

import gzip
import io
import json
import logging
import os
import re
import socket
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from flows.embedded_s3 import BUCKET
from tasks import ingest, sources
from tasks.core import errors, stage
from tasks.recipe import loading
from tasks.sources import http
from tasks.sources.base import SourcePartition
from tasks.sources.formats import file_content
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tasks.storage.object_store import ObjectStore
from tests.modalities.test_image import idx
from tests.sources.test_files import zstd
from tests.sources.test_http import Site
from tests.sources.test_http import site as site  # noqa: F401

SECRET = "s3cret-that-nobody-may-see"
GOOD = b"id,text,label\n1,first,no\n2,second,yes\n"
Inputs = dict[str, bytes | Callable[[Path], object]]
FINAL, MISTAKE, RETRYABLE = errors.EXIT_FAILED, errors.EXIT_CONFIG_ERROR, errors.EXIT_RETRYABLE


@dataclass
class Case:
    """What lies in the folder, what the recipe says, and what comes out: a sentence and its exit status, or the rows and the rejects by rule."""

    name: str
    inputs: Inputs = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    sentence: str = ""
    status: int = FINAL
    rows: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    check: Callable[[list[dict[str, Any]]], object] = lambda rows: True
    site: dict[str, object] = field(default_factory=dict)
    needs: str = ""  # store: the S3 server; between: a change after the first part was read
    extra: dict[str, Any] = field(default_factory=dict)


def refused(
    name: str, file: str, data: bytes | Callable[[Path], object], sentence: str, **settings: Any
) -> Case:
    return Case(name, {file: data}, {"path": file, **settings}, sentence)


def kept(
    name: str,
    file: str,
    data: bytes,
    rows: int,
    rules: dict[str, int] | None = None,
    check: Callable[..., object] = lambda rows: True,
    **settings: Any,
) -> Case:
    return Case(
        name, {file: data}, {"path": file, **settings}, rows=rows, rules=rules or {}, check=check
    )


def from_url(
    name: str,
    sentence: str,
    status: int = FINAL,
    change: dict[str, object] | None = None,
    **settings: Any,
) -> Case:
    return Case(
        name,
        source={"kind": "http", "url": "SITE", **settings},
        sentence=sentence,
        status=status,
        site=change or {},
    )


def from_sql(name: str, sentence: str, status: int = FINAL, **settings: str) -> Case:
    return Case(
        name,
        {"desk.db": database},
        {"kind": "sql", "url": "sqlite:///desk.db", **settings},
        sentence,
        status,
    )


def zipped(
    *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def zip_link() -> bytes:
    info = zipfile.ZipInfo("rows.csv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((info, b"/etc/passwd"))


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """A zip with bytes of its local or central header overwritten."""
    start = data.index(signature) + offset
    return data[:start] + value + data[start + len(value) :]


def tarred(*members: tuple[str, bytes, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = (
                kind,
                len(data),
                "/etc/passwd" if kind == tarfile.SYMTYPE else "",
            )
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def arrow() -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pa.table({"id": ["1"], "text": ["a"], "label": ["x"]}), sink)
    return sink.getvalue()


def database(path: Path) -> None:
    import sqlite3

    with sqlite3.connect(path) as connection:
        connection.execute("create table messages (id integer, text text, label text)")
    connection.close()


def locked(path: Path) -> None:
    path.write_bytes(GOOD)
    path.chmod(0)


def png(level: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )


def jsonl(*lines: object) -> bytes:
    return (
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
        + b"\n"
    )


def texts(*expected: str | None) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda rows: [row["text"] for row in rows] == list(expected)


def labels(*expected: str | None) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda rows: [row["label"] for row in rows] == list(expected)


ROW = {"id": "1", "text": "first", "label": "no"}
PICTURES, NUMBERS = idx(np.zeros((2, 4, 4), np.uint8)), idx(np.zeros(2, np.uint8))
NOISE = np.random.default_rng(0).bytes(4000)
REQUEST = {
    "id": "1",
    "time": "2026-11-23T10:00:00Z",
    "version": "v",
    "input": "first",
    "label": "no",
    "probability": 0.5,
}
FEEDBACK = {"id": "1", "time": "2026-11-23T11:00:00Z", "label": "yes", "actor": "ann"}
IMAGES = {"modality": "image"}

CASES = [
    # Files that are empty, cut off or something else
    refused("empty file", "rows.csv", b"", r"rows.csv is empty \(0 bytes\): write the data there again"),
    refused("header only", "rows.csv", b"id,text,label\n", "rows.csv holds no rows: a header alone is not data"),
    refused("blank lines only", "rows.csv", b"\n\n\n", r"rows.csv cannot be read as CSV \(.*Empty CSV file"),
    refused("gzip cut off", "rows.csv.gz", gzip.compress(NOISE)[:-10], "rows.csv.gz is cut off or not gzip"),
    refused("gzip that is text", "rows.csv.gz", GOOD, "rows.csv.gz is cut off or not gzip"),
    refused("gzip that is zstd", "rows.csv.gz", zstd(GOOD), "rows.csv.gz is not what its name says: it begins like zstd"),
    refused("gzip of nothing", "rows.csv.gz", gzip.compress(b""), "rows.csv.gz holds an empty file"),
    refused("gzip of a zip", "rows.csv.gz", gzip.compress(zipped(("rows.csv", GOOD))), "rows.csv.gz is not what its name says: it begins like zip"),
    refused("gzip bomb", "rows.csv.gz", gzip.compress(b"0" * 5_000_000), "rows.csv.gz expands to more than 1,000,000 bytes"),
    refused("zstd cut off", "rows.csv.zst", zstd(NOISE)[:-10], "rows.csv.zst is cut off or not zstd"),
    refused("zstd bomb", "rows.jsonl.zst", zstd(b"0" * 5_000_000), "rows.jsonl.zst expands to more than 1,000,000 bytes"),
    refused("CSV that is gzip", "rows.csv", gzip.compress(GOOD), "rows.csv is not what its name says: it begins like gzip"),
    refused("CSV that is a spreadsheet", "rows.csv", zipped(("xl/workbook.xml", b"")), "rows.csv is not what its name says: it begins like zip"),
    refused("CSV that is Parquet", "rows.csv", parquet(id=["1"]), "rows.csv is not what its name says: it begins like parquet"),
    refused("CSV that is a web page", "rows.csv", b"\n<!DOCTYPE html><html>", "rows.csv is not what its name says: it begins like an HTML page"),
    refused("Parquet cut off", "rows.parquet", parquet(id=["1"])[:-6], r"rows.parquet cannot be read as PARQUET \(.*\): it may be cut off"),
    refused("Parquet that is text", "rows.parquet", GOOD, "rows.parquet cannot be read as PARQUET"),
    refused("Parquet with a broken footer", "rows.parquet", patched(parquet(id=["1"]), b"schema", -20, b"\xff" * 24), "rows.parquet cannot be read as PARQUET"),
    refused("Arrow cut off", "rows.arrow", arrow()[:-40], "rows.arrow cannot be read as ARROW"),
    refused("Arrow that is text", "rows.feather", GOOD, "rows.feather cannot be read as FEATHER"),
    refused("suffix that is not read", "rows.xlsx", b"PK", "rows.xlsx: files of type .xlsx are not read. Allowed: .csv, .tsv"),
    refused("no suffix", "rows", GOOD, r"rows: files of type \(none\) are not read"),
    # Archives
    refused("zip cut off", "rows.zip", zipped(("rows.csv", GOOD))[:-30], "rows.zip is cut off or damaged"),
    refused("zip that is gzip", "rows.zip", gzip.compress(GOOD), "rows.zip is not what its name says: it begins like gzip"),
    refused("zip that is text", "rows.zip", GOOD, "rows.zip is cut off or damaged"),
    refused("zip of nothing", "rows.zip", zipped(), "rows.zip holds no file that is read"),
    refused("zip without data", "rows.zip", zipped(("readme.md", b"x"), ("__MACOSX/._rows.csv", b"x")), "rows.zip holds no file that is read"),
    refused("zip bomb", "rows.zip", zipped(("rows.csv", b"0" * 5_000_000)), "rows.zip expands to more than 1,000,000 bytes"),
    refused(
        "zip that declares less than it holds", "rows.zip", patched(zipped(("rows.csv", GOOD * 99)), b"PK\x01\x02", 24, struct.pack("<I", 9)),
        "rows.zip is cut off or damaged",
    ),
    refused(
        "zip with a wrong checksum", "rows.zip", patched(zipped(("rows.csv", GOOD)), b"PK\x01\x02", 16, b"\0\0\0\0"), r"rows.zip is cut off or damaged \(Bad CRC-32"
    ),
    refused(
        "zip with an unknown method", "rows.zip", patched(zipped(("rows.csv", GOOD)), b"PK\x01\x02", 10, b"\x63\0"), "rows.zip is cut off or damaged .*compression"
    ),
    refused("zip with a password", "rows.zip", patched(zipped(("rows.csv", GOOD)), b"PK\x01\x02", 8, b"\1\0"), "rows.zip: rows.csv is encrypted: pack"),
    refused("zip that leads out", "rows.zip", zipped(("../../etc/rows.csv", GOOD)), "rows.zip holds '../../etc/rows.csv', a name that leads out"),
    refused("zip with an absolute name", "rows.zip", zipped(("/etc/rows.csv", GOOD)), "rows.zip holds '/etc/rows.csv', a name that leads out"),
    refused("zip with a drive's name", "rows.zip", zipped(("C:\\rows.csv", GOOD)), "a name that leads out of the archive"),
    refused("zip with a link", "rows.zip", zip_link(), "rows.zip: rows.csv is a link or device, not a file"),
    refused("zip in a zip", "rows.zip", zipped(("a.csv", GOOD), ("b.zip", zipped(("b.csv", GOOD)))), "rows.zip holds the archive b.zip, and archives in"),
    refused("tar cut off in a member", "rows.tar", tarred(("rows.csv", tarfile.REGTYPE, NOISE))[:2000], "rows.tar is cut off or damaged"),
    refused("tar cut off between members", "rows.tar", tarred(("rows.csv", tarfile.REGTYPE, GOOD))[:1024], "rows.tar .*the end of the archive is missing"),
    refused("tar that is a zip", "rows.tar", zipped(("rows.csv", GOOD)), "rows.tar is not what its name says: it begins like zip"),
    refused("tar that is text", "rows.tar", GOOD, "rows.tar is cut off or damaged"),
    refused("tar.gz cut off", "rows.tar.gz", tarred(("rows.csv", tarfile.REGTYPE, NOISE), mode="w:gz")[:-12], "rows.tar.gz is cut off or not gzip"),
    refused("tgz that is a tar", "rows.tgz", tarred(("rows.csv", tarfile.REGTYPE, GOOD)), "rows.tgz is not what its name says: it begins like tar"),
    refused("tgz bomb", "rows.tgz", tarred(("rows.csv", tarfile.REGTYPE, b"0" * 5_000_000), mode="w:gz"), "rows.tgz expands to more than 1,000,000 bytes"),
    refused("tar with a link", "rows.tar", tarred(("rows.csv", tarfile.SYMTYPE, b"")), "rows.tar: rows.csv is a link or device, not a file"),
    refused("tar with a device", "rows.tar", tarred(("rows.csv", tarfile.CHRTYPE, b"")), "rows.tar: rows.csv is a link or device, not a file"),
    refused("tar that leads out", "rows.tar", tarred(("a/../../rows.csv", tarfile.REGTYPE, GOOD)), "a name that leads out of the archive"),
    refused("tar with a name twice", "rows.tar", tarred(*[("rows.csv", tarfile.REGTYPE, GOOD)] * 2), "rows.tar holds rows.csv twice"),
    refused("CSV in a zip not UTF-8", "rows.zip", zipped(("a.csv", b"id,text,label\n1,caf\xe9,no\n")), r"rows.zip/a.csv, line 2: byte 0xe9 is not utf-8"),
    kept("ragged CSV in a zip", "rows.zip", zipped(("a.csv", GOOD), ("b/c.csv", b"id,text,label\n3,x\n4,third,no\n")), 3, {"broken row": 1}),
    kept("member of a tar repeats ids", "rows.tgz", tarred(("a.csv", tarfile.REGTYPE, GOOD), ("b.csv", tarfile.REGTYPE, GOOD), mode="w:gz"), 2, {"id given twice": 2}),
    # Text
    kept("NUL bytes in CSV", "rows.csv", GOOD + b"3,th\0ird,no\n", 2, {"broken row": 1}),
    kept("NUL in JSON", "rows.jsonl", jsonl(ROW, {**ROW, "id": "2", "text": "a\0b"}), 1, {"broken row": 1}),
    kept("raw NUL in JSON", "rows.jsonl", jsonl(ROW, '{"id": "2", "text": "a\0b"}'), 1, {"broken row": 1}),
    refused("two encodings in one file", "rows.csv", GOOD + "3,café,no\n".encode() + "4,café,no\n".encode("latin-1"), "rows.csv, line 5: byte 0xe9 is not utf-8"),
    refused("UTF-16 read as UTF-8", "rows.csv", GOOD.decode().encode("utf-16"), "rows.csv, line 1: byte 0xff is not utf-8 text"),
    refused("UTF-16 without its mark", "rows.csv", GOOD.decode().encode("utf-16-le"), "looks like UTF-16 without its byte order mark: set ingest.encoding: utf-16-le"),
    kept("UTF-16 without its mark, guessed", "rows.csv", GOOD.decode().encode("utf-16-be"), 2, encoding="auto"),
    kept("byte order mark in CSV", "rows.csv", b"\xef\xbb\xbf" + GOOD, 2),
    kept("byte order mark in JSON", "rows.jsonl", b"\xef\xbb\xbf" + jsonl(ROW), 1),
    kept("separators of Unicode in JSON", "rows.jsonl", jsonl(json.dumps({**ROW, "text": "a\u2028b\x85c"}, ensure_ascii=False)), 1, check=texts("a\u2028b\x85c")),
    refused("encoding that is not the file's", "rows.csv", "id,text,label\n1,é,no\n".encode(), "rows.csv, line 2: byte 0xc3 is not ascii text", encoding="ascii"),
    # Rows and headers
    kept("rows of other lengths", "rows.csv", GOOD + b"3,x\n4,x,y,z\n5,fifth,no\n", 3, {"broken row": 2}),
    refused("a name twice in the header", "rows.csv", b"id,text,text\n1,a,b\n", "rows.csv: the header names text more than once"),
    refused("a name missing in the header", "rows.csv", b"id,,label\n1,a,b\n", "rows.csv: column 2 has no name in the header"),
    refused("no header", "rows.csv", GOOD.split(b"\n", 1)[1], "there is no column 'id'. It has 1, first, no: correct columns.id"),
    kept("no header, detected", "rows.csv", b"1,a,no\n2,b,yes\n", 2, header="auto", check=lambda rows: {row["text"] for row in rows} == {"a", "b"}),
    kept("blank lines", "rows.csv", GOOD.replace(b"\n", b"\n\n"), 2),
    kept("carriage returns alone", "rows.csv", GOOD.replace(b"\n", b"\r"), 2),
    refused("open quote in the last column", "rows.csv", GOOD + b'3,x,"open\n4,y,no\n', "a quote is opened and not closed before the end of the file"),
    refused("open quote before", "rows.csv", GOOD + b'"3,open,no\n4,x,no\n', "a quote is opened and not closed before the end of the file"),
    kept("quote that closes in another row", "rows.csv", GOOD + b'3,"open,no\n4,x,"no\n5,y,no\n', 3, {"broken row": 1}),
    kept("quoted cell of several lines", "rows.csv", GOOD + b'3,x,"a\nb"\n', 3, check=labels("no", "yes", "a\nb")),
    kept("cell of 10 MB", "rows.csv", GOOD + b"3," + b"x" * 10_000_000 + b",no\n", 3, check=lambda rows: len(rows[2]["text"]) == 10_000_000),
    refused("cell of 40 MB", "rows.csv", GOOD + b"3," + b"x" * 40_000_000 + b",no\n", "rows.csv has a row of more than 16 MB"),
    kept("5,000 columns", "rows.csv", b"id,text,label," + b",".join(b"c%d" % n for n in range(5000)) + b"\n1,a,no" + b"," * 5000 + b"\n", 1),
    kept("JSON line of 12 MB", "rows.jsonl", jsonl({**ROW, "text": "x" * 12_000_000}), 1, check=lambda rows: len(rows[0]["text"]) == 12_000_000),
    kept("another delimiter, detected", "rows.csv", GOOD.replace(b",", b";"), 2, delimiter="auto"),
    # JSON
    refused("JSON array", "rows.jsonl", json.dumps([ROW, ROW], indent=1).encode(), "rows.jsonl is a JSON array, but one object a line is expected"),
    refused("JSON over several lines", "rows.jsonl", json.dumps(ROW, indent=1).encode(), "rows.jsonl has no line with a JSON object; line 1"),
    refused("JSON lines that are blank", "rows.jsonl", b"\n \n", "rows.jsonl has no line with a JSON object: write one"),
    kept("nested JSON", "rows.jsonl", jsonl({**ROW, "text": {"a": [1, None]}}), 1, check=texts('{"a": [1, null]}')),
    kept("JSON nested 200,000 deep", "rows.jsonl", jsonl(ROW, '{"id": "2", "text": ' + "[" * 200_000 + "]" * 200_000 + "}"), 1, {"broken row": 1}),
    kept("name twice in a JSON object", "rows.jsonl", jsonl(ROW, '{"id": "2", "id": "3", "text": "x", "label": "no"}'), 1, {"broken row": 1}),
    kept("NaN and Infinity in JSON", "rows.jsonl", jsonl(ROW, '{"id": "2", "text": NaN}', '{"id": "3", "text": -Infinity}'), 1, {"broken row": 2}),
    kept("half a character in JSON", "rows.jsonl", jsonl(ROW, '{"id": "2", "text": "\\ud800"}'), 1, {"broken row": 1}),
    kept("JSON cut off in its last line", "rows.jsonl", jsonl(ROW, {**ROW, "id": "2"})[:-9], 1, {"broken row": 1}),
    kept("numbers where text is expected", "rows.jsonl", jsonl({**ROW, "id": 12345678901234567890, "text": 5}), 1, check=lambda rows: rows[0]["id"] == "12345678901234567890"),
    kept("types that change from line to line", "rows.jsonl", jsonl(ROW, {**ROW, "id": 2, "text": True}, {**ROW, "id": "3", "text": None}), 3, check=texts("first", "true", None)),
    kept("texts that look like dates", "rows.jsonl", jsonl({**ROW, "text": "2020-01-01T00:00:00Z"}), 1, check=texts("2020-01-01T00:00:00Z")),
    # Values
    kept("dates of the year 0", "rows.csv", b"id,text,label\n1,0000-00-00,no\n2,0000-01-01T00:00:00Z,no\n", 2, check=texts("0000-00-00", "0000-01-01T00:00:00Z")),
    kept("labels that are NaN", "rows.parquet", parquet(id=["1", "2"], text=["a", "b"], label=[1.0, float("nan")]), 2, check=labels("1", None)),
    kept("label that reads nan, and none", "rows.csv", b"id,text,label\n1,a,nan\n2,b,\n", 2, check=labels("nan", None)),
    kept("ids missing and given twice", "rows.csv", GOOD + b",x,no\n1,y,no\n", 2, {"no id": 1, "id given twice": 1}),
    refused("no ids at all", "rows.csv", b"id,text,label\n,a,no\n,b,no\n", "rows.csv holds no rows"),
    kept("bytes that are no text in Parquet", "rows.parquet", parquet(id=["1"], text=[b"\xff\x00"], label=["x"]), 1, check=texts("ff00")),
    kept("nested values in Parquet", "rows.parquet", parquet(id=["1"], text=[{"a": [1]}], label=["x"]), 1, check=texts('{"a": [1]}')),
    refused("a name twice in Parquet", "rows.parquet", lambda path: pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, ["id", "id"]), path), "names id more than once"),
    # Places
    Case("one of several files empty", {"a.csv": GOOD, "b.csv": b""}, {"path": "*.csv"}, "b.csv is empty"),
    Case("one of several files without rows", {"a.csv": GOOD, "b.csv": b"id,text,label\n"}, {"path": "*.csv"}, rows=2),
    Case("one of several files with other columns", {"a.csv": GOOD, "b.csv": b"id,txt,label\n3,c,no\n"}, {"path": "*.csv"}, r"b.csv: there is no column 'text' \(did you"),
    Case("folder without files", {"in/.keep": b""}, {"path": "in"}, "ingest.path: in matches no file"),
    Case("pattern without match", {}, {"path": "*.csv"}, r"ingest.path: \*.csv matches no file"),
    Case("folder that is named like a file", {"rows.csv/.keep": b""}, {"path": "*.csv"}, r"ingest.path: \*.csv matches no file"),
    refused("link to nothing", "rows.csv", lambda path: path.symlink_to("gone.csv"), "rows.csv is not a file but a link to one that is gone"),
    Case("link to nothing in a folder", {"in/a.csv": GOOD, "in/b.csv": lambda path: path.symlink_to("gone.csv")}, {"path": "in"}, "in/b.csv is not a file but a link"),
    refused("pipe", "rows.csv", lambda path: os.mkfifo(path), "rows.csv is not a file"),
    refused("unreadable file", "rows.csv", locked, "ingest could not read or write at .*rows.csv: Permission denied"),
    Case("name that is no text", {os.fsdecode(b"r\xffws.csv"): GOOD}, {"path": "*.csv"}, "the name of this file is not UTF-8 text: rename it"),
    Case("control character in the recipe", {}, {"path": "\x00CONTROL"}, "recipe.yaml: not valid YAML", MISTAKE),
    # Images
    Case(
        "images that are none", {"in/cat/1.png": png(), "in/cat/2.png": png()[:-30], "in/cat/3.jpg": b"not an image", "in/cat/4.png": huge_png(), "in/cat/5.png": b""},
        {"kind": "images", "path": "in"}, rows=1, rules={"broken row": 4}, extra=IMAGES,
    ),
    Case("images without folders", {"in/1.png": png()}, {"kind": "images", "path": "in"}, "in holds no folders", extra=IMAGES),
    Case("IDX cut off", {"x": PICTURES[:-5], "y": NUMBERS}, {"kind": "images", "path": "x", "labels": "y"}, "x has 43 bytes where its header", extra=IMAGES),
    Case("IDX that is something else", {"x": NOISE, "y": NUMBERS}, {"kind": "images", "path": "x", "labels": "y"}, "x is not an IDX file", extra=IMAGES),
    Case("IDX empty", {"x": b"", "y": NUMBERS}, {"kind": "images", "path": "x", "labels": "y"}, "x is not an IDX file .* begins with nothing", extra=IMAGES),
    Case("IDX of another length", {"x": PICTURES, "y": idx(np.zeros(3, np.uint8))}, {"kind": "images", "path": "x", "labels": "y"}, "do not belong together", extra=IMAGES),
    Case("IDX bomb", {"x": gzip.compress(b"\0" * 5_000_000), "y": NUMBERS}, {"kind": "images", "path": "x", "labels": "y"}, "x expands to more than", extra=IMAGES),
    Case("IDX gzip cut off", {"x": gzip.compress(PICTURES)[:-9], "y": NUMBERS}, {"kind": "images", "path": "x", "labels": "y"}, "x is cut off or not gzip", extra=IMAGES),
    # URLs
    Case("URL that never answers", source={"kind": "http", "url": "SILENT"}, sentence=r"cannot be read to its end \(ReadTimeout\)", status=RETRYABLE),
    from_url("URL that refuses", r"127.0.0.1:9/rows.csv cannot be read to its end \(ConnectError\)", RETRYABLE, url="http://user:${PASSWORD}@127.0.0.1:9/rows.csv"),
    from_url("redirect to a file", "leads to an address that is not read", change={"to": "file:///etc/passwd"}),
    from_url("redirect in a circle", r"leads to an address that is not read \(TooManyRedirects\)", change={"to": "/rows.csv"}),
    from_url("not found", "answers with status 404: check the address", change={"status": 404}),
    from_url("forbidden", "answers with status 403: check the address and what its credentials may read", change={"status": 403}),
    from_url("server error", "answers with status 500", RETRYABLE, change={"status": 500}),
    from_url("body cut off", "cannot be read to its end", RETRYABLE, change={"cut_after": 20}),
    from_url("larger than allowed", "is larger than 10 bytes: raise ingest.max_bytes", max_bytes=10),
    from_url("another sha256", "has sha256 [0-9a-f]{64}, but the recipe expects 0000", sha256="0" * 64),
    from_url("changed during the download", "has sha256 [0-9a-f]{64}, but the recipe expects", change={"served": '"two"'}, sha256="1" * 64),
    from_url("a web page in place of data", "127.0.0.1:.*/rows.csv is not what its name says: it begins like an HTML page", change={"data": b"<html>Sign in</html>"}),
    from_url("an empty body", r"/rows.csv is empty \(0 bytes\)", change={"data": b""}),
    from_url("variable that is not set", "names the variable NOT_SET, which is not set", MISTAKE, url="https://${NOT_SET}@127.0.0.1/rows.csv"),
    from_url("password in the recipe", "ingest.url: holds a password or token in plain text: write", MISTAKE, url=f"https://user:{SECRET}@127.0.0.1/rows.csv"),
    from_url("token in the recipe", "ingest.url: holds a password or token in plain text", MISTAKE, url=f"https://127.0.0.1/rows.csv?access_token={SECRET}"),
    from_url(
        "URL with a port that is none", "ingest.url is not the URL of a file", MISTAKE,
        url="http://user:${PASSWORD}@127.0.0.1:port/rows.csv",
    ),
    from_url("URL that is none", "ingest.url: ", MISTAKE, url=f"ftp://user:{SECRET}@127.0.0.1/rows.csv"),
    # Buckets
    Case("object deleted after it was listed", source={"kind": "s3"}, sentence="in/b.csv was deleted or changed after it was listed", status=RETRYABLE, needs="between"),
    Case("bucket that is not there", source={"kind": "s3", "bucket": "nowhere"}, sentence="'nowhere'.*ingest.bucket", needs="store"),
    Case("wrong secret", source={"kind": "s3", "prefix": "in/"}, sentence="refuses the credentials", needs="wrong"),
    Case("prefix without objects", source={"kind": "s3", "prefix": "nothing/"}, sentence="holds no object that is read", needs="store"),
    Case("store out of reach", source={"kind": "s3", "bucket": "any", "endpoint": "http://127.0.0.1:9"}, sentence="cannot be reached", status=RETRYABLE),
    # Databases
    from_sql("SQL with a mistake", 'the database answers: near "selec": syntax error', query="selec 1"),
    from_sql("query that writes", "attempt to write a readonly database", query="delete from messages"),
    from_sql("table that is not there", "no such table: mesages", table="mesages"),
    from_sql("table without rows", "sql messages holds no rows", table="messages"),
    from_sql("columns of one name", "gives id more than once: name the columns", query="select 1 as id, 2 as id"),
    from_sql("database out of reach", "onnection refused", RETRYABLE, table="x", url="postgresql+psycopg://reader:${PASSWORD}@127.0.0.1:9/desk"),
    from_sql("driver that is not there", "the driver of this database is not installed", MISTAKE, table="x", url="oracle://reader:${PASSWORD}@127.0.0.1/desk"),
    from_sql("database URL that is none", "ingest.url is not the URL of a database", MISTAKE, table="x", url="reader ${PASSWORD}"),
    from_sql("database variable that is not set", "names the variable NOT_SET", MISTAKE, table="x", url="postgresql://reader:${NOT_SET}@127.0.0.1/desk"),
    from_sql("database password in the recipe", "ingest.url: holds a password", MISTAKE, table="x", url=f"postgresql://reader:{SECRET}@127.0.0.1/desk"),
    # Data sets and logs
    Case("folder that is no data set", {"folder/data.bin": b"x"}, {"kind": "huggingface", "name": "folder"}, "folder cannot be read as a data set"),
    Case("data set that is not there", {}, {"kind": "huggingface", "name": "not/here/at all"}, "not/here/at all is neither a folder here nor a name on the Hub"),
    Case(
        "log of requests with broken lines", {"log.jsonl": jsonl(REQUEST, '{"id": "2', {**REQUEST, "id": "3", "input": None}), "said.jsonl": jsonl(FEEDBACK, {**FEEDBACK, "id": "9"})},
        {"kind": "request_log", "path": "log.jsonl", "feedback": "said.jsonl"}, rows=1, rules={"broken row": 3}, check=labels("yes"),
    ),
    Case("log of requests without feedback", {"log.jsonl": jsonl(REQUEST), "said.jsonl": jsonl({**FEEDBACK, "id": "9"})},
         {"kind": "request_log", "path": "log.jsonl", "feedback": "said.jsonl"}, "log.jsonl, said.jsonl holds? no rows"),
]  # fmt: skip


@pytest.fixture
def world(here: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials with a recognisable secret, small limits, and a port that never answers."""
    monkeypatch.setenv("PASSWORD", SECRET)
    monkeypatch.setattr(file_content, "MIN_UNPACKED_LIMIT", 1_000_000)
    monkeypatch.setattr(http, "HTTP_TIMEOUT", httpx.Timeout(0.5))
    site.data = GOOD
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(
            "SILENT", f"http://user:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/rows.csv"
        )
        yield


def ingested(source: dict[str, Any], extra: dict[str, Any]) -> int:
    """The exit status of the ingest step for a recipe with this source."""
    columns = (
        {}
        if source["kind"] in ("images", "request_log") or source.get("header") == "auto"
        else {"columns": {"id": "id"}}
    )
    roles = (
        {"columns": {"text": "f1", "label": "f2"}} if source.get("header") == "auto" else columns
    )
    made = {
        "name": "malformed",
        "modality": "text",
        "max_dropped": 1,
        "ingest": source,
        "gate": [{"rule": "floor", "metric": "macro_f1", "bound": 0.5}],
        **roles,
        **extra,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(made).replace("\\0CONTROL", "\0"))

    def ingest_step(name: str) -> None:
        ingest.run(loading.read_recipe(Path("recipe.yaml")), StagePaths(Path("out")))

    ingest_step.__name__ = "ingest"
    with pytest.raises(SystemExit) as ended:
        stage.main(ingest_step, ["malformed"])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_malformed_input_is_told_or_counted(
    case: Case, world: None, here: Path, site: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    if case.name == "unreadable file" and os.getuid() == 0:
        pytest.skip("root may read every file")
    for name, data in case.inputs.items():
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        if callable(data):
            data(here / name)
        else:
            (here / name).write_bytes(data)
    source = {"kind": "files", **case.source}
    if source.get("url") in ("SITE", "SILENT"):
        source["url"] = (
            site.url()
            if source["url"] == "SITE"
            else "http://user:${PASSWORD}@" + os.environ["SILENT"].rpartition("@")[2]
        )
    for attribute, value in case.site.items():
        setattr(site, attribute, value)
    secrets = [SECRET]
    if case.needs:
        store: ObjectStore = request.getfixturevalue("store")
        secrets.append(store.settings.secret or SECRET)
        source = {"bucket": BUCKET, "prefix": "in/", "endpoint": store.settings.endpoint, **source}
        with_objects(store, case.needs, monkeypatch)
    elif source["kind"] == "s3":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    status = ingested(source, case.extra)

    told = capsys.readouterr().err
    assert "Traceback" not in told and "does not know" not in told
    written = [path for path in (here / "out").rglob("*") if path.is_file()]
    seen = told + caplog.text + "".join(path.read_bytes().decode("latin-1") for path in written)
    assert not [secret for secret in secrets if secret in seen]
    if case.sentence:
        assert status == case.status, told
        assert told.startswith("error: ") or status == MISTAKE
        assert re.search(case.sentence, told), told
    else:
        assert status == 0, told
        snapshot = files.read_json(here / "out/raw/snapshot.json")
        rows = [
            row
            for part in snapshot["partitions"]
            for row in pq.read_table(here / "out/raw" / part["file"]).to_pylist()
        ]
        assert snapshot["rows"] == len(rows) == case.rows
        assert snapshot["by_rule"] == case.rules
        assert snapshot["rows_in"] == snapshot["rows"] + snapshot["rejects"]
        assert (
            pq.read_table(here / "out/raw/rejects.parquet").num_rows
            == snapshot["rejects"]
            == sum(case.rules.values())
        )
        assert case.check(rows)


def with_objects(store: ObjectStore, needs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.settings.key and store.settings.secret
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.settings.key)
    monkeypatch.setenv(
        "AWS_SECRET_ACCESS_KEY", store.settings.secret if needs != "wrong" else SECRET
    )
    for name in ("in/a.csv", "in/b.csv"):
        store.client.put_object(Bucket=BUCKET, Key=name, Body=GOOD)
    if needs == "between":
        whole = sources.iter_partitions

        def interrupted(source: Any) -> Iterator[SourcePartition]:
            for part in whole(source):
                yield part
                store.client.delete_object(Bucket=BUCKET, Key="in/b.csv")

        monkeypatch.setattr(sources, "iter_partitions", interrupted)


def test_there_are_at_least_sixty_malformed_inputs_each_with_a_name_of_its_own() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
