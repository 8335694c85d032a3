"""Local files: every format, compression and encoding gives the same rows, or a sentence."""

import datetime
import gzip
import io
import json
import tarfile
import zipfile
from decimal import Decimal
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tasks.core.errors import StageError
from tasks.recipe.ingest import FilesSource
from tasks.rows.table_columns import convert_to_text
from tasks.sources import list_partition_versions
from tasks.sources.base import BrokenRow
from tasks.sources.formats import file_content
from tasks.storage import hashing
from tests.conftest import read_batches

gzipped = partial(gzip.compress, mtime=0)  # a time would be in the names of tests

ROWS = [
    {"id": "1", "text": "façade, größer"},
    {"id": "2", "text": "plain words"},
    {"id": "3", "text": "naïve café"},
]
TABLE = pa.Table.from_pylist(ROWS)


def delimited(delimiter: str = ",", header: bool = True) -> str:
    lines = [f"id{delimiter}text"] if header else []
    for row in ROWS:
        text = f'"{row["text"]}"' if delimiter in row["text"] else row["text"]
        lines.append(f"{row['id']}{delimiter}{text}")
    return "\n".join(lines) + "\n"


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def read(path: str, **settings: object) -> tuple[list[dict[str, str]], list[BrokenRow]]:
    """All rows, and all lines that are none."""
    source = FilesSource.model_validate({"kind": "files", "path": path, **settings})
    rows: list[dict[str, str]] = []
    broken: list[BrokenRow] = []
    for batch in read_batches(source):
        rows += batch.table.to_pylist()
        broken += batch.broken
    return rows, broken


JSON = "\n".join(json.dumps(row) for row in ROWS) + "\n"


@pytest.mark.parametrize(
    ("name", "data", "settings"),
    [
        ("rows.csv", delimited().encode(), {}),
        ("rows.tsv", delimited("\t").encode(), {}),
        ("rows.csv", delimited(";").encode(), {"delimiter": ";"}),
        ("rows.csv", delimited(header=False).encode(), {"names": ["id", "text"]}),
        ("rows.csv", delimited().encode("latin-1"), {"encoding": "latin-1"}),
        ("rows.csv", delimited().encode("utf-16"), {"encoding": "utf-16"}),
        ("rows.csv", delimited().encode(), {"encoding": "auto"}),
        ("rows.csv", delimited().encode(), {"encoding": "UTF8"}),
        ("rows.csv", delimited(";").encode(), {"delimiter": "auto"}),
        ("rows.csv", delimited("|").encode(), {"delimiter": "auto", "header": "auto"}),
        ("rows.tsv", delimited("\t").encode("utf-16"), {"delimiter": "auto", "encoding": "auto"}),
        ("rows.csv.gz", gzipped(delimited().encode()), {}),
        ("rows.csv.zst", zstd(delimited().encode()), {}),
        ("rows.jsonl", JSON.encode(), {}),
        ("rows.jsonl.gz", gzipped(JSON.encode()), {}),
        ("rows.jsonl", JSON.encode("utf-16"), {"encoding": "utf-16"}),
    ],
)
def test_every_text_format_gives_the_same_rows(
    here: Path, name: str, data: bytes, settings: dict[str, object]
) -> None:
    (here / name).write_bytes(data)
    assert read(name, **settings) == (ROWS, [])


@pytest.mark.parametrize("settings", [{"header": False}, {"header": "auto"}])
def test_a_file_without_header_gets_names_of_its_own(
    here: Path, settings: dict[str, object]
) -> None:
    (here / "rows.csv").write_text(delimited(header=False))
    assert read("rows.csv", **settings) == (
        [{"f0": row["id"], "f1": row["text"]} for row in ROWS],
        [],
    )


def packed(name: str) -> bytes:
    """An archive with files of several formats, and some that are not read."""
    table = io.BytesIO()
    pq.write_table(TABLE, table)
    buffer = io.BytesIO()
    members = {
        "b/a.csv": delimited().encode(),
        "b/c.jsonl.gz": gzipped(JSON.encode()),
        "a.parquet": table.getvalue(),
        "b/notes.md": b"x",
        "b/.a.csv": b"x",
    }
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("b")
            for member, data in members.items():
                archive.writestr(member, data)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz" if name.endswith("gz") else "w") as tar:
        folder = tarfile.TarInfo("b")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return zstd(buffer.getvalue()) if name.endswith("zst") else buffer.getvalue()


@pytest.mark.parametrize(
    "name", ["rows.zip", "rows.tar", "rows.tar.gz", "rows.tgz", "rows.tar.zst"]
)
def test_members_of_an_archive_are_read_and_nothing_is_unpacked_to_the_disk(
    here: Path, name: str
) -> None:
    (here / name).write_bytes(packed(name))
    source = FilesSource(kind="files", path=name)
    batches = list(read_batches(source))
    others = batches.pop()
    members = ("b/a.csv", "b/c.jsonl.gz", "a.parquet")
    assert [batch.name for batch in batches] == [f"{name}/{member}" for member in members]
    assert [batch.table.to_pylist() for batch in batches] == [ROWS] * 3
    assert others.table.num_rows == 0
    assert [file.content for file in others.unread] == [f"{name}/b/notes.md"]
    assert list_partition_versions(source) == {name: hashing.sha256(here / name)}
    assert [path.name for path in here.rglob("*")] == [name]


def test_versions_are_in_order_of_name_and_a_skipped_part_is_not_read(
    here: Path,
) -> None:
    for name in ("b.csv", "a.csv"):
        (here / name).write_text(delimited())
    source = FilesSource(kind="files", path="*.csv")
    assert list(list_partition_versions(source).items()) == [
        (name, hashing.sha256(here / name)) for name in ("a.csv", "b.csv")
    ]
    (here / "a.csv").write_text("no CSV,\n1\n")
    assert [part.name for part in read_batches(source, skip={"a.csv"})] == ["b.csv"]


def test_values_of_every_arrow_type_are_text() -> None:
    columns = [
        (pa.array([1.5, float("nan"), None]), ["1.5", None, None]),
        (pa.array([{"a": [1]}, None]), ['{"a": [1]}', None]),
        (pa.array([[datetime.date(2020, 1, 2)]]), ['["2020-01-02"]']),
        (pa.array([b"caf\xc3\xa9", None]), ["café", None]),
        (pa.array([b"\xff", b"a"]), ["ff", "61"]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.array([datetime.datetime(1, 1, 1)]), ["0001-01-01 00:00:00.000000"]),
        (pa.array([Decimal("1.10")]), ["1.10"]),
        (pa.array([True, None]), ["true", None]),
    ]
    for values, expected in columns:
        assert convert_to_text(pa.chunked_array([values])).to_pylist() == expected


def test_arrow_and_parquet_and_a_folder_of_several_kinds_are_read(here: Path) -> None:
    (here / "in" / "deep").mkdir(parents=True)
    pq.write_table(TABLE, here / "in" / "a.parquet")
    pyarrow.feather.write_feather(TABLE, str(here / "in" / "deep" / "b.arrow"))
    (here / "in" / "deep" / "notes.pdf").write_bytes(b"not data")
    (here / "in" / ".hidden.csv").write_text("not,data\n")
    assert read("in") == (ROWS * 2, [])


def test_plain_text_is_a_row_a_line(here: Path) -> None:
    (here / "lines.txt").write_text("one\n\n  \ntwo\n")
    assert read("lines.txt") == ([{"text": "one"}, {"text": "two"}], [])


def test_chinese_text_in_its_national_encoding_is_recognised(here: Path) -> None:
    text = "id,text\n" + "".join(
        f"{n},外卖送得很快，味道也不错，下次还会再点第{n}次\n" for n in range(50)
    )
    (here / "rows.csv").write_bytes(text.encode("gb18030"))
    rows, _ = read("rows.csv", encoding="auto")
    assert [row["text"] for row in rows] == [
        f"外卖送得很快，味道也不错，下次还会再点第{n}次" for n in range(50)
    ]


def test_lines_that_are_no_objects_are_set_aside_and_the_others_kept(here: Path) -> None:
    (here / "rows.jsonl").write_text(
        '{"id": "1", "text": "a"}\n{"id": "2", "te\n[1, 2]\n{"id": 3, "text": {"nested": true}}\n'
    )
    rows, broken = read("rows.jsonl")
    assert rows == [{"id": "1", "text": "a"}, {"id": "3", "text": '{"nested": true}'}]
    assert [(row.content, row.problem.partition(":")[0]) for row in broken] == [
        ('{"id": "2", "te', "line 2"),
        ("[1, 2]", "line 3"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        (
            "rows.csv.gz",
            gzipped(delimited().encode() * 999)[:-20],
            r"rows.csv.gz is cut off or not gzip \(.*\): copy it again.",
        ),
        ("rows.csv.gz", b"id,text\n1,not compressed\n", r"rows.csv.gz is cut off or not gzip"),
        (
            "rows.csv.zst",
            zstd(delimited().encode() * 999)[:-20],
            r"rows.csv.zst is cut off or not zstd",
        ),
        ("rows.csv.gz", gzipped(b""), r"rows.csv.gz holds an empty file"),
        (
            "rows.csv.gz",
            gzipped(b"0" * 50_000_000),
            r"rows.csv.gz expands to more than 10,000,000 bytes, and more than 100 times its "
            r"size: it is not read",
        ),
        (
            "rows.csv.gz",
            gzipped("id,text\n1,ok\n2,caf\xe9\n".encode("latin-1")),
            r"rows.csv.gz, line 3: byte 0xe9 is not utf-8 text",
        ),
        (
            "rows.xlsx",
            b"PK",
            r"rows.xlsx: files of type .xlsx are not read. Allowed: .csv, .tsv, .jsonl, .txt, "
            r".parquet, .arrow, .feather",
        ),
        ("rows.arrow", b"ARROW1 but not really", r"rows.arrow cannot be read as ARROW"),
        (
            "rows.parquet",
            b"PAR1 but not really",
            r"rows.parquet cannot be read as PARQUET \(.*\): it may be cut off; copy it again.",
        ),
        (
            "rows.csv",
            b"id,id\n1,2\n",
            r"rows.csv: the header names id more than once: rename the columns.",
        ),
        ("rows.csv", b"", r"rows.csv is empty \(0 bytes\): write the data there again."),
    ],
)
def test_what_cannot_be_read_ends_with_a_sentence(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes, sentence: str
) -> None:
    monkeypatch.setattr(file_content, "MIN_UNPACKED_LIMIT", 10_000_000)
    (here / name).write_bytes(data)
    with pytest.raises(StageError, match=sentence):
        read(name)
