"""The promotion protocol against a real S3 server."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from flows import embedded_s3
from tasks.core.errors import RetryableError, StageError
from tasks.registry import channel_pointer, journal, manifests, object_keys
from tasks.registry.channel_pointer import ChannelPointer, PromotionResult
from tasks.storage.object_store import ObjectStore, StoreSettings
from tasks.training import export


def version(store: ObjectStore, model: str, folder: Path, content: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_text(content)
    return manifests.publish_version(
        store, model, folder, manifests.encode_manifest(model, folder, {}, {}, {})
    )


def promote(
    store: ObjectStore, model: str, name: str, expected: ChannelPointer | None
) -> PromotionResult:
    evidence = {"verdict": "promote", "champion": expected.version if expected else None}
    return channel_pointer.promote(
        store, model, "production", name, evidence, expected, "test", f"promotes {name}"
    )


def test_of_eight_concurrent_promotions_exactly_one_wins_each_generation_and_losers_say_who(
    store: ObjectStore, tmp_path: Path
) -> None:
    names = [
        version(store, "race", tmp_path / str(number), f"content {number}") for number in range(8)
    ]
    expected = None
    for generation in (1, 2, 3):
        with ThreadPoolExecutor(8) as pool:
            moves = list(
                pool.map(
                    lambda name, champion=expected: promote(store, "race", name, champion), names
                )
            )
        winners = [name for name, move in zip(names, moves, strict=True) if move.won]
        now = channel_pointer.read_pointer(store, "race", "production")
        assert now and now.generation == generation
        assert winners == [now.version]
        assert all(move.now and move.now.version == now.version for move in moves)
        expected = now
    assert [
        record["generation"] for record in journal.read_history(store, "race", "production")
    ] == [
        3,
        2,
        1,
    ]


def test_it_is_known_which_versions_were_trained_on_a_row_also_where_the_source_wrote_blanks_around_its_id(
    store: ObjectStore, tmp_path: Path
) -> None:
    silent = version(store, "known", tmp_path / "silent", "says nothing")
    export.write_trained_on(tmp_path / "told" / "trained_on.parquet", ["ann", " bob ", "carl"])
    told = version(store, "known", tmp_path / "told", "model")
    assert manifests.count_training_rows(store, "known", ["bob", "carl", "dora"]) == {
        told: 2,
        silent: None,
    }
    assert b"carl" not in (tmp_path / "told" / "trained_on.parquet").read_bytes()


def test_publishing_twice_is_publishing_once(store: ObjectStore, tmp_path: Path) -> None:
    first = version(store, "twice", tmp_path, "same")
    objects = list(store.list_names("twice/"))
    assert version(store, "twice", tmp_path, "same") == first
    assert list(store.list_names("twice/")) == objects


def test_a_pointer_that_returned_to_an_older_version_does_not_let_a_stale_writer_pass(
    store: ObjectStore, tmp_path: Path
) -> None:
    one, two = (version(store, "aba", tmp_path / name, name) for name in "ab")
    stale = promote(store, "aba", one, None).now
    other = promote(store, "aba", two, stale).now
    back = promote(store, "aba", one, other).now
    assert stale and back and back.version == stale.version
    assert not promote(store, "aba", two, stale).won
    assert channel_pointer.read_pointer(store, "aba", "production") == back


def test_a_move_whose_answer_is_lost_or_repeated_has_won_and_one_that_did_not_happen_may_be_tried_again(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (version(store, "lost", tmp_path / name, name) for name in "ab")
    put = store.client.put_object

    def answer_is_lost(**about: Any) -> None:
        put(**about)
        raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

    def pointer_is_not_written(**about: Any) -> Any:
        if "/channels/" in about["Key"]:
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
        return put(**about)

    def repeated(**about: Any) -> Any:
        put(**about)
        return put(**about)  # as a client does that got no answer, which is then refused

    monkeypatch.setattr(store.client, "put_object", answer_is_lost)
    first = promote(store, "lost", one, None)
    assert first.won and first.now and first.now.generation == 1
    monkeypatch.setattr(store.client, "put_object", pointer_is_not_written)
    with pytest.raises(
        RetryableError, match="the move of lost production got no answer and did not happen"
    ):
        promote(store, "lost", two, first.now)
    monkeypatch.setattr(store.client, "put_object", repeated)
    assert promote(store, "lost", two, first.now).won
    assert [record["version"] for record in journal.read_history(store, "lost", "production")] == [
        two,
        one,
    ]


def test_evidence_for_another_champion_or_another_verdict_promotes_nothing(
    store: ObjectStore, tmp_path: Path
) -> None:
    name = version(store, "closed", tmp_path, "x")
    for evidence in (
        {"verdict": "reject", "champion": None},
        {"verdict": "promote", "champion": "another"},
    ):
        with pytest.raises(StageError, match="does not allow this promotion"):
            channel_pointer.promote(store, "closed", "production", name, evidence, None, "test", "")
    assert channel_pointer.read_pointer(store, "closed", "production") is None


def test_a_journal_record_that_a_killed_promotion_left_out_is_written_by_the_next(
    store: ObjectStore, tmp_path: Path
) -> None:
    one, two = (version(store, "journal", tmp_path / name, name) for name in "ab")
    first = promote(store, "journal", one, None).now
    store.client.delete_object(
        Bucket=store.settings.bucket, Key=store.key("journal/journal/production/000000001.json")
    )
    promote(store, "journal", two, first)
    assert [
        record["version"] for record in journal.read_history(store, "journal", "production")
    ] == [
        two,
        one,
    ]
    assert len(list(store.list_names("journal/journal/"))) == 2


def test_a_damaged_blob_is_never_handed_out(store: ObjectStore, tmp_path: Path) -> None:
    name = version(store, "damaged", tmp_path / "model", "good")
    manifest = store.get(f"damaged/versions/{name}/manifest.json")
    assert manifest
    blob = object_keys.blob_key("damaged", json.loads(manifest[0])["files"]["model.bin"]["sha256"])
    store.client.put_object(Bucket=store.settings.bucket, Key=store.key(blob), Body=b"evil")
    with pytest.raises(StageError, match="damaged or tampered with"):
        manifests.fetch_version(store, "damaged", name, tmp_path / "cache")
    assert not (tmp_path / "cache" / name / "model.bin").exists()


def test_a_store_that_is_away_refuses_or_has_no_bucket_says_so_without_the_secret(
    store: ObjectStore,
) -> None:
    known = store.settings
    cases = [
        (
            StoreSettings(
                "millrace", endpoint="http://127.0.0.1:9", key="k", secret="hidden-secret"
            ),
            "cannot be reached",
        ),
        (
            StoreSettings(
                "millrace", endpoint=known.endpoint, key=known.key, secret="hidden-secret"
            ),
            "refuses the credentials",
        ),
        (
            StoreSettings("of-others", endpoint=known.endpoint, key=known.key, secret=known.secret),
            "or the bucket 'of-others' is not theirs",
        ),
    ]
    for settings, sentence in cases:
        with pytest.raises(StageError, match=sentence) as caught:
            ObjectStore(settings).verify_access()
        assert "hidden-secret" not in str(caught.value)
        assert str(known.secret) not in str(caught.value)


def test_a_missing_bucket_is_named(here: Path) -> None:
    identity = {
        "name": "all",
        "credentials": [{"accessKey": "key", "secretKey": "secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    embedded_s3.SERVER_FOLDER.mkdir(parents=True)
    embedded_s3.write_private_file(
        embedded_s3.SERVER_FOLDER / "s3.json", json.dumps({"identities": [identity]})
    )
    with (
        embedded_s3.open_store() as store,
        pytest.raises(
            StageError,
            match="there is no bucket 'nowhere': create it, or correct MILLRACE_S3_BUCKET",
        ),
    ):
        ObjectStore(
            StoreSettings("nowhere", endpoint=store.settings.endpoint, key="key", secret="secret")
        ).check()
