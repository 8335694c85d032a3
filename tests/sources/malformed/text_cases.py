"""Texts, tables and JSON lines with something wrong in them."""

import json

from tests.sources.malformed.builders import build_jsonl, build_parquet, write_doubled_parquet
from tests.sources.malformed.case import GOOD, kept, labels, refused, texts

ROW = {"id": "1", "text": "first", "label": "no"}


TEXT_CASES = [
    kept("NUL bytes in CSV", "rows.csv", GOOD + b"3,th\0ird,no\n", 2, {"broken row": 1}),
    kept(
        "NUL in JSON",
        "rows.jsonl",
        build_jsonl(ROW, {**ROW, "id": "2", "text": "a\0b"}),
        1,
        {"broken row": 1},
    ),
    kept(
        "raw NUL in JSON",
        "rows.jsonl",
        build_jsonl(ROW, '{"id": "2", "text": "a\0b"}'),
        1,
        {"broken row": 1},
    ),
    refused(
        "two encodings in one file",
        "rows.csv",
        GOOD + "3,café,no\n".encode() + "4,café,no\n".encode("latin-1"),
        "rows.csv, line 5: byte 0xe9 is not utf-8",
    ),
    refused(
        "UTF-16 read as UTF-8",
        "rows.csv",
        GOOD.decode().encode("utf-16"),
        "rows.csv, line 1: byte 0xff is not utf-8 text",
    ),
    refused(
        "UTF-16 without its mark",
        "rows.csv",
        GOOD.decode().encode("utf-16-le"),
        "looks like UTF-16 without its byte order mark: set ingest.encoding: utf-16-le",
    ),
    kept(
        "UTF-16 without its mark, guessed",
        "rows.csv",
        GOOD.decode().encode("utf-16-be"),
        2,
        encoding="auto",
    ),
    kept("byte order mark in CSV", "rows.csv", b"\xef\xbb\xbf" + GOOD, 2),
    kept("byte order mark in JSON", "rows.jsonl", b"\xef\xbb\xbf" + build_jsonl(ROW), 1),
    kept(
        "separators of Unicode in JSON",
        "rows.jsonl",
        build_jsonl(json.dumps({**ROW, "text": "a\u2028b\x85c"}, ensure_ascii=False)),
        1,
        check=texts("a\u2028b\x85c"),
    ),
    refused(
        "encoding that is not the file's",
        "rows.csv",
        "id,text,label\n1,é,no\n".encode(),
        "rows.csv, line 2: byte 0xc3 is not ascii text",
        encoding="ascii",
    ),
]

ROW_CASES = [
    kept(
        "rows of other lengths",
        "rows.csv",
        GOOD + b"3,x\n4,x,y,z\n5,fifth,no\n",
        3,
        {"broken row": 2},
    ),
    refused(
        "a name twice in the header",
        "rows.csv",
        b"id,text,text\n1,a,b\n",
        "rows.csv: the header names text more than once",
    ),
    refused(
        "a name missing in the header",
        "rows.csv",
        b"id,,label\n1,a,b\n",
        "rows.csv: column 2 has no name in the header",
    ),
    refused(
        "no header",
        "rows.csv",
        GOOD.split(b"\n", 1)[1],
        "there is no column 'id'. It has 1, first, no: correct columns.id",
    ),
    kept(
        "no header, detected",
        "rows.csv",
        b"1,a,no\n2,b,yes\n",
        2,
        header="auto",
        check=lambda rows: {row["text"] for row in rows} == {"a", "b"},
    ),
    kept("blank lines", "rows.csv", GOOD.replace(b"\n", b"\n\n"), 2),
    kept("carriage returns alone", "rows.csv", GOOD.replace(b"\n", b"\r"), 2),
    refused(
        "open quote in the last column",
        "rows.csv",
        GOOD + b'3,x,"open\n4,y,no\n',
        "a quote is opened and not closed before the end of the file",
    ),
    refused(
        "open quote before",
        "rows.csv",
        GOOD + b'"3,open,no\n4,x,no\n',
        "a quote is opened and not closed before the end of the file",
    ),
    kept(
        "quote that closes in another row",
        "rows.csv",
        GOOD + b'3,"open,no\n4,x,"no\n5,y,no\n',
        3,
        {"broken row": 1},
    ),
    kept(
        "quoted cell of several lines",
        "rows.csv",
        GOOD + b'3,x,"a\nb"\n',
        3,
        check=labels("no", "yes", "a\nb"),
    ),
    kept(
        "cell of 10 MB",
        "rows.csv",
        GOOD + b"3," + b"x" * 10_000_000 + b",no\n",
        3,
        check=lambda rows: len(rows[2]["text"] or "") == 10_000_000,
    ),
    refused(
        "cell of 40 MB",
        "rows.csv",
        GOOD + b"3," + b"x" * 40_000_000 + b",no\n",
        "rows.csv has a row of more than 16 MB",
    ),
    kept(
        "5,000 columns",
        "rows.csv",
        b"id,text,label,"
        + b",".join(b"c%d" % n for n in range(5000))
        + b"\n1,a,no"
        + b"," * 5000
        + b"\n",
        1,
    ),
    kept(
        "JSON line of 12 MB",
        "rows.jsonl",
        build_jsonl({**ROW, "text": "x" * 12_000_000}),
        1,
        check=lambda rows: len(rows[0]["text"] or "") == 12_000_000,
    ),
    kept("another delimiter, detected", "rows.csv", GOOD.replace(b",", b";"), 2, delimiter="auto"),
]

JSON_CASES = [
    refused(
        "JSON array",
        "rows.jsonl",
        json.dumps([ROW, ROW], indent=1).encode(),
        "rows.jsonl is a JSON array, but one object a line is expected",
    ),
    refused(
        "JSON over several lines",
        "rows.jsonl",
        json.dumps(ROW, indent=1).encode(),
        "rows.jsonl has no line with a JSON object; line 1",
    ),
    refused(
        "JSON lines that are blank",
        "rows.jsonl",
        b"\n \n",
        "rows.jsonl has no line with a JSON object: write one",
    ),
    kept(
        "nested JSON",
        "rows.jsonl",
        build_jsonl({**ROW, "text": {"a": [1, None]}}),
        1,
        check=texts('{"a": [1, null]}'),
    ),
    kept(
        "JSON nested 200,000 deep",
        "rows.jsonl",
        build_jsonl(ROW, '{"id": "2", "text": ' + "[" * 200_000 + "]" * 200_000 + "}"),
        1,
        {"broken row": 1},
    ),
    kept(
        "name twice in a JSON object",
        "rows.jsonl",
        build_jsonl(ROW, '{"id": "2", "id": "3", "text": "x", "label": "no"}'),
        1,
        {"broken row": 1},
    ),
    kept(
        "NaN and Infinity in JSON",
        "rows.jsonl",
        build_jsonl(ROW, '{"id": "2", "text": NaN}', '{"id": "3", "text": -Infinity}'),
        1,
        {"broken row": 2},
    ),
    kept(
        "half a character in JSON",
        "rows.jsonl",
        build_jsonl(ROW, '{"id": "2", "text": "\\ud800"}'),
        1,
        {"broken row": 1},
    ),
    kept(
        "JSON cut off in its last line",
        "rows.jsonl",
        build_jsonl(ROW, {**ROW, "id": "2"})[:-9],
        1,
        {"broken row": 1},
    ),
    kept(
        "numbers where text is expected",
        "rows.jsonl",
        build_jsonl({**ROW, "id": 12345678901234567890, "text": 5}),
        1,
        check=lambda rows: rows[0]["id"] == "12345678901234567890",
    ),
    kept(
        "types that change from line to line",
        "rows.jsonl",
        build_jsonl(ROW, {**ROW, "id": 2, "text": True}, {**ROW, "id": "3", "text": None}),
        3,
        check=texts("first", "true", None),
    ),
    kept(
        "texts that look like dates",
        "rows.jsonl",
        build_jsonl({**ROW, "text": "2020-01-01T00:00:00Z"}),
        1,
        check=texts("2020-01-01T00:00:00Z"),
    ),
]

VALUE_CASES = [
    kept(
        "dates of the year 0",
        "rows.csv",
        b"id,text,label\n1,0000-00-00,no\n2,0000-01-01T00:00:00Z,no\n",
        2,
        check=texts("0000-00-00", "0000-01-01T00:00:00Z"),
    ),
    kept(
        "labels that are NaN",
        "rows.parquet",
        build_parquet(id=["1", "2"], text=["a", "b"], label=[1.0, float("nan")]),
        2,
        check=labels("1", None),
    ),
    kept(
        "label that reads nan, and none",
        "rows.csv",
        b"id,text,label\n1,a,nan\n2,b,\n",
        2,
        check=labels("nan", None),
    ),
    kept(
        "ids missing and given twice",
        "rows.csv",
        GOOD + b",x,no\n1,y,no\n",
        2,
        {"no id": 1, "id given twice": 1},
    ),
    refused(
        "no ids at all", "rows.csv", b"id,text,label\n,a,no\n,b,no\n", "rows.csv holds no rows"
    ),
    kept(
        "bytes that are no text in Parquet",
        "rows.parquet",
        build_parquet(id=["1"], text=[b"\xff\x00"], label=["x"]),
        1,
        check=texts("ff00"),
    ),
    kept(
        "nested values in Parquet",
        "rows.parquet",
        build_parquet(id=["1"], text=[{"a": [1]}], label=["x"]),
        1,
        check=texts('{"a": [1]}'),
    ),
    refused(
        "a name twice in Parquet", "rows.parquet", write_doubled_parquet, "names id more than once"
    ),
]
