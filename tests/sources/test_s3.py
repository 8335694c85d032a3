"""Objects of a real S3 server: read as they were listed, and no message with a credential."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.server_secrets import BUCKET
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.ingest import S3Source
from tasks.sources import list_partition_versions
from tasks.storage.object_store import ObjectStore
from tests.conftest import read_batches

ROWS = [{"id": "1", "text": "first"}, {"id": "2", "text": "second"}]


class Refusal(NamedTuple):
    """Settings of the source and variables of the environment, and the error that they end with."""

    settings: dict[str, str]
    environment: dict[str, str]
    error: type[StageError]
    sentence: str


@pytest.fixture
def bucket(
    store: ObjectStore, here: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """The server's bucket, without objects below `in/`; boto3 finds its credentials."""
    assert store.settings.key
    assert store.settings.secret
    assert store.settings.endpoint
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.settings.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.settings.secret)
    monkeypatch.setenv("S3_ENDPOINT", store.settings.endpoint)
    delete_inputs(store)  # other modules share the server
    yield store
    delete_inputs(store)


def delete_inputs(store: ObjectStore) -> None:
    """Delete all objects below `in/`."""
    for item in list(store.list_objects("in/")):
        store.client.delete_object(Bucket=BUCKET, Key=item.name)


def source(**settings: object) -> S3Source:
    return S3Source.model_validate(
        {"kind": "s3", "bucket": BUCKET, "prefix": "in/", "endpoint": "${S3_ENDPOINT}", **settings}
    )


def put(bucket: ObjectStore, name: str, data: bytes) -> None:
    bucket.client.put_object(Bucket=BUCKET, Key=name, Body=data)


def test_objects_of_every_format_are_parts_in_order_of_name(
    bucket: ObjectStore, here: Path
) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), here / "rows.parquet")
    put(bucket, "in/a.csv", b"id,text\n1,first\n2,second\n")
    put(
        bucket,
        "in/deep/b.jsonl.gz",
        gzip.compress("\n".join(json.dumps(row) for row in ROWS).encode()),
    )
    put(bucket, "in/deep/c.parquet", (here / "rows.parquet").read_bytes())
    put(bucket, "in/notes.pdf", b"%PDF-")
    put(bucket, "elsewhere.csv", b"id,text\n9,other\n")
    batches = list(read_batches(source()))
    names = ("a.csv", "deep/b.jsonl.gz", "deep/c.parquet")
    assert [batch.name for batch in batches] == [f"s3://{BUCKET}/in/{name}" for name in names]
    assert [batch.table.to_pylist() for batch in batches] == [ROWS] * 3
    assert not [path for path in (here / ".millrace/downloads").rglob("*") if path.is_file()]


def test_a_changed_object_changes_its_version_alone_and_others_are_not_read(
    bucket: ObjectStore,
) -> None:
    put(bucket, "in/a.csv", b"id,text\n1,first\n")
    put(bucket, "in/b.csv", b"id,text\n2,second\n")
    before = list_partition_versions(source())
    assert list_partition_versions(source()) == before
    put(bucket, "in/b.csv", b"id,text\n2,changed\n")
    put(bucket, "in/c.csv", b"id,text\n3,third\n")
    after = list_partition_versions(source())
    same = [name for name, version in after.items() if before.get(name) == version]
    assert same == [f"s3://{BUCKET}/in/a.csv"]
    put(bucket, "in/a.csv", b"PK\x03\x04 no CSV any more: whoever read it would fail")
    batches = list(read_batches(source(), skip=same))
    assert [batch.table["id"].to_pylist() for batch in batches] == [["2"], ["3"]]


@pytest.mark.parametrize("change", ["deleted", "overwritten"])
def test_an_object_that_is_gone_or_changed_after_it_was_listed_is_not_read(
    bucket: ObjectStore, change: str
) -> None:
    put(bucket, "in/a.csv", b"id,text\n1,first\n")
    put(bucket, "in/b.csv", b"id,text\n2,second\n")
    parts = read_batches(source())
    assert next(parts).table.num_rows == 1
    if change == "deleted":
        bucket.client.delete_object(Bucket=BUCKET, Key="in/b.csv")
    else:
        put(bucket, "in/b.csv", b"id,text\n2,changed\n")
    with pytest.raises(
        RetryableError,
        match=f"s3://{BUCKET}/in/b.csv was deleted or changed after it was listed: "
        "the next try lists the objects again.",
    ):
        next(parts)


def test_the_listed_version_is_read_though_the_object_was_overwritten(
    bucket: ObjectStore,
) -> None:
    bucket.client.put_bucket_versioning(
        Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"}
    )
    try:
        put(bucket, "in/versions/a.csv", b"id,text\n1,oldest\n")
        put(bucket, "in/versions/a.csv", b"id,text\n1,first\n")
        put(bucket, "in/versions/b.csv", b"id,text\n2,second\n")
        versioned = source(prefix="in/versions/", versions=True)
        before = list_partition_versions(versioned)
        parts = read_batches(versioned)
        assert next(parts).table.to_pylist() == [{"id": "1", "text": "first"}]
        put(bucket, "in/versions/b.csv", b"id,text\n2,changed\n")
        assert next(parts).table.to_pylist() == [{"id": "2", "text": "second"}]
        after = list_partition_versions(versioned)
        assert [name for name in after if after[name] != before[name]] == [
            f"s3://{BUCKET}/in/versions/b.csv"
        ]
    finally:
        bucket.client.put_bucket_versioning(
            Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"}
        )


@pytest.mark.parametrize(
    "case",
    [
        Refusal(
            {},
            {},
            StageError,
            "s3://millrace/in/ at http://127.0.0.1:.* holds no object that is read .*: put the "
            "data there or correct ingest.prefix",
        ),
        Refusal(
            {"bucket": "nowhere"},
            {},
            StageError,
            "(there is no bucket 'nowhere'|the bucket 'nowhere' is not theirs).*ingest.bucket",
        ),
        Refusal(
            {},
            {"AWS_SECRET_ACCESS_KEY": "hidden"},
            StageError,
            "refuses the credentials .*: check the access key, its secret, what it may do and "
            "ingest.bucket",
        ),
        Refusal({}, {"AWS_ACCESS_KEY_ID": "hidden"}, StageError, "refuses the credentials"),
        Refusal(
            {},
            {"S3_ENDPOINT": "http://127.0.0.1:9"},
            RetryableError,
            "cannot be reached .*: check that it runs and that ingest.endpoint is right",
        ),
        Refusal(
            {},
            {"S3_ENDPOINT": "http://user:hidden@127.0.0.1:9"},
            ConfigError,
            "ingest.endpoint is not the address of an S3 server",
        ),
        Refusal(
            {"endpoint": "http://127.0.0.1:9/?token=${TOKEN}"},
            {"TOKEN": "hidden"},
            ConfigError,
            "address of an S3 server",
        ),
        Refusal(
            {},
            {"S3_ENDPOINT": "http://[hidden"},
            ConfigError,
            "ingest.endpoint is not the address of an S3 server",
        ),
        Refusal(
            {},
            {"S3_ENDPOINT": "http://127.0.0.1:hidden"},
            ConfigError,
            "ingest.endpoint is not the address of an S3 server",
        ),
        Refusal(
            {},
            {"S3_ENDPOINT": "http://hid den"},
            ConfigError,
            "ingest.endpoint is not the address of an S3 server",
        ),
        Refusal(
            {"endpoint": "http://${HOST}"},
            {"HOST": "user:hidden@127.0.0.1:9"},
            ConfigError,
            "HOST is in the position of the host and holds an @",
        ),
        Refusal(
            {"endpoint": "${NOT_SET}"},
            {},
            ConfigError,
            "ingest.endpoint names the variable NOT_SET, which is not set",
        ),
    ],
)
def test_what_cannot_be_listed_ends_with_a_sentence_without_credentials(
    bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch, case: Refusal
) -> None:
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(case.error, match=case.sentence) as caught:
        list(read_batches(source(**case.settings)))
    secrets = ("hidden", bucket.settings.key, bucket.settings.secret)
    assert not [secret for secret in secrets if secret and secret in str(caught.value)]
