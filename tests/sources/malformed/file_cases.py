"""Files and archives that are empty, damaged, or not what their name says."""

import gzip
import struct
import tarfile

import numpy as np

from tests.sources.malformed.builders import (
    CHECKSUM,
    FLAGS,
    METHOD,
    UNPACKED_SIZE,
    build_arrow,
    build_parquet,
    build_tar,
    build_tar_of,
    build_zip,
    build_zip_link,
    patch,
    patch_zip,
)
from tests.sources.malformed.case import GOOD, kept, refused
from tests.sources.test_files import zstd

NOISE = np.random.default_rng(0).bytes(4000)


FILE_CASES = [
    refused(
        "empty file", "rows.csv", b"", r"rows.csv is empty \(0 bytes\): write the data there again"
    ),
    refused(
        "header only",
        "rows.csv",
        b"id,text,label\n",
        "rows.csv holds no rows: a header alone is not data",
    ),
    refused(
        "blank lines only",
        "rows.csv",
        b"\n\n\n",
        r"rows.csv cannot be read as CSV \(.*Empty CSV file",
    ),
    refused(
        "gzip cut off",
        "rows.csv.gz",
        gzip.compress(NOISE)[:-10],
        "rows.csv.gz is cut off or not gzip",
    ),
    refused("gzip that is text", "rows.csv.gz", GOOD, "rows.csv.gz is cut off or not gzip"),
    refused(
        "gzip that is zstd",
        "rows.csv.gz",
        zstd(GOOD),
        "rows.csv.gz is not what its name says: it begins like zstd",
    ),
    refused(
        "gzip of nothing", "rows.csv.gz", gzip.compress(b""), "rows.csv.gz holds an empty file"
    ),
    refused(
        "gzip of a zip",
        "rows.csv.gz",
        gzip.compress(build_zip(("rows.csv", GOOD))),
        "rows.csv.gz is not what its name says: it begins like zip",
    ),
    refused(
        "gzip bomb",
        "rows.csv.gz",
        gzip.compress(b"0" * 5_000_000),
        "rows.csv.gz expands to more than 1,000,000 bytes",
    ),
    refused(
        "zstd cut off", "rows.csv.zst", zstd(NOISE)[:-10], "rows.csv.zst is cut off or not zstd"
    ),
    refused(
        "zstd bomb",
        "rows.jsonl.zst",
        zstd(b"0" * 5_000_000),
        "rows.jsonl.zst expands to more than 1,000,000 bytes",
    ),
    refused(
        "CSV that is gzip",
        "rows.csv",
        gzip.compress(GOOD),
        "rows.csv is not what its name says: it begins like gzip",
    ),
    refused(
        "CSV that is a spreadsheet",
        "rows.csv",
        build_zip(("xl/workbook.xml", b"")),
        "rows.csv is not what its name says: it begins like zip",
    ),
    refused(
        "CSV that is Parquet",
        "rows.csv",
        build_parquet(id=["1"]),
        "rows.csv is not what its name says: it begins like parquet",
    ),
    refused(
        "CSV that is a web page",
        "rows.csv",
        b"\n<!DOCTYPE html><html>",
        "rows.csv is not what its name says: it begins like an HTML page",
    ),
    refused(
        "Parquet cut off",
        "rows.parquet",
        build_parquet(id=["1"])[:-6],
        r"rows.parquet cannot be read as PARQUET \(.*\): it may be cut off",
    ),
    refused("Parquet that is text", "rows.parquet", GOOD, "rows.parquet cannot be read as PARQUET"),
    refused(
        "Parquet with a broken footer",
        "rows.parquet",
        patch(build_parquet(id=["1"]), b"schema", -20, b"\xff" * 24),
        "rows.parquet cannot be read as PARQUET",
    ),
    refused(
        "Arrow cut off", "rows.arrow", build_arrow()[:-40], "rows.arrow cannot be read as ARROW"
    ),
    refused("Arrow that is text", "rows.feather", GOOD, "rows.feather cannot be read as FEATHER"),
    refused(
        "suffix that is not read",
        "rows.xlsx",
        b"PK",
        "rows.xlsx: files of type .xlsx are not read. Allowed: .csv, .tsv",
    ),
    refused("no suffix", "rows", GOOD, r"rows: files of type \(none\) are not read"),
]

ARCHIVE_CASES = [
    refused(
        "zip cut off",
        "rows.zip",
        build_zip(("rows.csv", GOOD))[:-30],
        "rows.zip is cut off or damaged",
    ),
    refused(
        "zip that is gzip",
        "rows.zip",
        gzip.compress(GOOD),
        "rows.zip is not what its name says: it begins like gzip",
    ),
    refused("zip that is text", "rows.zip", GOOD, "rows.zip is cut off or damaged"),
    refused("zip of nothing", "rows.zip", build_zip(), "rows.zip holds no file that is read"),
    refused(
        "zip without data",
        "rows.zip",
        build_zip(("readme.md", b"x"), ("__MACOSX/._rows.csv", b"x")),
        "rows.zip holds no file that is read",
    ),
    refused(
        "zip bomb",
        "rows.zip",
        build_zip(("rows.csv", b"0" * 5_000_000)),
        "rows.zip expands to more than 1,000,000 bytes",
    ),
    refused(
        "zip that declares less than it holds",
        "rows.zip",
        patch_zip(build_zip(("rows.csv", GOOD * 99)), UNPACKED_SIZE, struct.pack("<I", 9)),
        "rows.zip is cut off or damaged",
    ),
    refused(
        "zip with a wrong checksum",
        "rows.zip",
        patch_zip(build_zip(("rows.csv", GOOD)), CHECKSUM, b"\0\0\0\0"),
        r"rows.zip is cut off or damaged \(Bad CRC-32",
    ),
    refused(
        "zip with an unknown method",
        "rows.zip",
        patch_zip(build_zip(("rows.csv", GOOD)), METHOD, b"\x63\0"),
        "rows.zip is cut off or damaged .*compression",
    ),
    refused(
        "zip with a password",
        "rows.zip",
        patch_zip(build_zip(("rows.csv", GOOD)), FLAGS, b"\1\0"),
        "rows.zip: rows.csv is encrypted: pack",
    ),
    refused(
        "zip that leads out",
        "rows.zip",
        build_zip(("../../etc/rows.csv", GOOD)),
        "rows.zip holds '../../etc/rows.csv', a name that leads out",
    ),
    refused(
        "zip with an absolute name",
        "rows.zip",
        build_zip(("/etc/rows.csv", GOOD)),
        "rows.zip holds '/etc/rows.csv', a name that leads out",
    ),
    refused(
        "zip with a drive's name",
        "rows.zip",
        build_zip(("C:\\rows.csv", GOOD)),
        "a name that leads out of the archive",
    ),
    refused(
        "zip with a link",
        "rows.zip",
        build_zip_link(),
        "rows.zip: rows.csv is a link or device, not a file",
    ),
    refused(
        "zip in a zip",
        "rows.zip",
        build_zip(("a.csv", GOOD), ("b.zip", build_zip(("b.csv", GOOD)))),
        "rows.zip holds the archive b.zip, and archives in",
    ),
    refused(
        "tar cut off in a member",
        "rows.tar",
        build_tar_of(NOISE)[:2000],
        "rows.tar is cut off or damaged",
    ),
    refused(
        "tar cut off between members",
        "rows.tar",
        build_tar_of(GOOD)[:1024],
        "rows.tar .*the end of the archive is missing",
    ),
    refused(
        "tar that is a zip",
        "rows.tar",
        build_zip(("rows.csv", GOOD)),
        "rows.tar is not what its name says: it begins like zip",
    ),
    refused("tar that is text", "rows.tar", GOOD, "rows.tar is cut off or damaged"),
    refused(
        "tar.gz cut off",
        "rows.tar.gz",
        build_tar_of(NOISE, mode="w:gz")[:-12],
        "rows.tar.gz is cut off or not gzip",
    ),
    refused(
        "tgz that is a tar",
        "rows.tgz",
        build_tar_of(GOOD),
        "rows.tgz is not what its name says: it begins like tar",
    ),
    refused(
        "tgz bomb",
        "rows.tgz",
        build_tar_of(b"0" * 5_000_000, mode="w:gz"),
        "rows.tgz expands to more than 1,000,000 bytes",
    ),
    refused(
        "tar with a link",
        "rows.tar",
        build_tar(("rows.csv", tarfile.SYMTYPE, b"")),
        "rows.tar: rows.csv is a link or device, not a file",
    ),
    refused(
        "tar with a device",
        "rows.tar",
        build_tar(("rows.csv", tarfile.CHRTYPE, b"")),
        "rows.tar: rows.csv is a link or device, not a file",
    ),
    refused(
        "tar that leads out",
        "rows.tar",
        build_tar(("a/../../rows.csv", tarfile.REGTYPE, GOOD)),
        "a name that leads out of the archive",
    ),
    refused(
        "tar with a name twice",
        "rows.tar",
        build_tar(*[("rows.csv", tarfile.REGTYPE, GOOD)] * 2),
        "rows.tar holds rows.csv twice",
    ),
    refused(
        "CSV in a zip not UTF-8",
        "rows.zip",
        build_zip(("a.csv", b"id,text,label\n1,caf\xe9,no\n")),
        r"rows.zip/a.csv, line 2: byte 0xe9 is not utf-8",
    ),
    kept(
        "ragged CSV in a zip",
        "rows.zip",
        build_zip(("a.csv", GOOD), ("b/c.csv", b"id,text,label\n3,x\n4,third,no\n")),
        3,
        {"broken row": 1},
    ),
    kept(
        "member of a tar repeats ids",
        "rows.tgz",
        build_tar(("a.csv", tarfile.REGTYPE, GOOD), ("b.csv", tarfile.REGTYPE, GOOD), mode="w:gz"),
        2,
        {"id given twice": 2},
    ),
]
