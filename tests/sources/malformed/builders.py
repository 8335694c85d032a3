"""Files of every format, and ways to damage them."""

import io
import json
import sqlite3
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from PIL import Image

from tests.sources.malformed.case import GOOD

LOCAL_HEADER = b"PK\x03\x04"
CENTRAL_HEADER = b"PK\x01\x02"
FLAGS = 8  # offsets in the central header of a zip file
METHOD = 10
CHECKSUM = 16
UNPACKED_SIZE = 24


def build_zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A zip file of these names and contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def build_zip_link() -> bytes:
    """A zip file with a symbolic link."""
    info = zipfile.ZipInfo("rows.csv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return build_zip((info, b"/etc/passwd"))


def patch_zip(data: bytes, offset: int, value: bytes) -> bytes:
    """A zip file with bytes of its central header overwritten."""
    return patch(data, CENTRAL_HEADER, offset, value)


def patch(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Bytes overwritten at an offset from a signature."""
    start = data.index(signature) + offset
    return data[:start] + value + data[start + len(value) :]


def build_tar(*members: tuple[str, bytes, bytes], mode: str = "w") -> bytes:
    """A tar file of these names, types and contents."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(data)
            info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def build_tar_of(data: bytes, mode: str = "w") -> bytes:
    """A tar file of one file."""
    return build_tar(("rows.csv", tarfile.REGTYPE, data), mode=mode)


def build_parquet(**columns: object) -> bytes:
    """A Parquet file of these columns."""
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def build_arrow() -> bytes:
    """An Arrow file of one row."""
    sink = io.BytesIO()
    pyarrow.feather.write_feather(pa.table({"id": ["1"], "text": ["a"], "label": ["x"]}), sink)
    return sink.getvalue()


def write_doubled_parquet(path: Path) -> None:
    """A Parquet file with two columns of one name."""
    table = pa.Table.from_arrays([pa.array([1])] * 2, ["id", "id"])
    pq.write_table(table, path)


def write_database(path: Path) -> None:
    """A database with an empty table."""
    with sqlite3.connect(path) as connection:
        connection.execute("create table messages (id integer, text text, label text)")
    connection.close()


def write_locked(path: Path) -> None:
    """A file that nobody but root may read."""
    path.write_bytes(GOOD)
    path.chmod(0)


def link_to_nothing(path: Path) -> None:
    """A symbolic link to a file that is not there."""
    path.symlink_to("gone.csv")


def build_png() -> bytes:
    """A black image."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def build_huge_png() -> bytes:
    """An image whose header promises 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13)
    return start + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\0\0IEND\xaeB`\x82"


def build_jsonl(*lines: object) -> bytes:
    """A file of JSON lines; a text is a line as it is."""
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return "\n".join(written).encode() + b"\n"
