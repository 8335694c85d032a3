"""The promotion protocol against a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tasks.contracts.gate_verdict import Verdict
from tasks.core.errors import RetryableError, StageError
from tasks.registry import channel_pointer, journal, object_keys
from tasks.registry.channel_pointer import CurrentPointer
from tasks.storage.object_store import ObjectStore
from tests.registry import examples


def read_pointer(store: ObjectStore, model: str) -> CurrentPointer | None:
    return channel_pointer.read_pointer(store, model, examples.CHANNEL)


def history(store: ObjectStore, model: str) -> list[str]:
    """The versions that were promoted, newest first."""
    records = journal.read_history(store, model, examples.CHANNEL)
    return [record.version for record in records]


def publish_two(store: ObjectStore, model: str, folder: Path) -> list[str]:
    return [examples.publish(store, model, folder / name, name) for name in "ab"]


def test_exactly_one_of_eight_concurrent_promotions_wins_and_losers_say_who(
    store: ObjectStore, tmp_path: Path
) -> None:
    versions = [
        examples.publish(store, "race", tmp_path / str(number), f"content {number}")
        for number in range(8)
    ]
    expected = None
    for generation in (1, 2, 3):
        attempt = partial(examples.promote, store, "race", expected=expected)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(attempt, versions))
        winners = [version for version, result in zip(versions, results, strict=True) if result.won]
        current = read_pointer(store, "race")
        assert current
        assert current.generation == generation
        assert winners == [current.version]
        for result in results:
            assert result.current
            assert result.current.version == current.version
        expected = current
    records = journal.read_history(store, "race", examples.CHANNEL)
    assert [record.generation for record in records] == [3, 2, 1]


def test_a_pointer_that_returned_to_an_older_version_lets_no_stale_writer_pass(
    store: ObjectStore, tmp_path: Path
) -> None:
    first, second = publish_two(store, "aba", tmp_path)
    stale = examples.promote(store, "aba", first, None).current
    between = examples.promote(store, "aba", second, stale).current
    back = examples.promote(store, "aba", first, between).current
    assert stale
    assert back
    assert back.version == stale.version
    assert not examples.promote(store, "aba", second, stale).won
    assert read_pointer(store, "aba") == back


def test_a_promotion_whose_answer_is_lost_has_won(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = examples.publish(store, "lost", tmp_path, "model")
    put = store.client.put_object

    def lose_answer(**arguments: Any) -> None:
        put(**arguments)
        raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

    monkeypatch.setattr(store.client, "put_object", lose_answer)
    result = examples.promote(store, "lost", version, None)
    assert result.won
    assert result.current
    assert result.current.generation == 1


def test_a_promotion_that_a_client_repeats_silently_has_won(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish_two(store, "repeated", tmp_path)
    pointer = examples.promote(store, "repeated", first, None).current
    put = store.client.put_object

    def put_twice(**arguments: Any) -> Any:
        put(**arguments)
        return put(**arguments)  # as a client does that got no answer; the store refuses it

    monkeypatch.setattr(store.client, "put_object", put_twice)
    assert examples.promote(store, "repeated", second, pointer).won
    assert history(store, "repeated") == [second, first]


def test_a_promotion_that_did_not_happen_may_be_tried_again(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish_two(store, "away", tmp_path)
    pointer = examples.promote(store, "away", first, None).current
    put = store.client.put_object

    def fail_on_pointer(**arguments: Any) -> Any:
        if "/channels/" in arguments["Key"]:
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
        return put(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store.client, "put_object", fail_on_pointer)
        sentence = "the promotion of away production got no answer and did not happen"
        with pytest.raises(RetryableError, match=sentence):
            examples.promote(store, "away", second, pointer)
    assert examples.promote(store, "away", second, pointer).won
    assert history(store, "away") == [second, first]


@pytest.mark.parametrize(("outcome", "champion"), [("reject", None), ("promote", "another")])
def test_evidence_for_another_champion_or_verdict_promotes_nothing(
    store: ObjectStore, tmp_path: Path, outcome: Verdict, champion: str | None
) -> None:
    version = examples.publish(store, "closed", tmp_path, "x")
    evidence = examples.evidence(outcome, champion)
    with pytest.raises(StageError, match="does not allow this promotion"):
        channel_pointer.promote(store, examples.promotion("closed", version, evidence))
    assert read_pointer(store, "closed") is None


def test_a_journal_record_that_a_killed_promotion_left_out_is_written_by_the_next(
    store: ObjectStore, tmp_path: Path
) -> None:
    first, second = publish_two(store, "journal", tmp_path)
    pointer = examples.promote(store, "journal", first, None).current
    key = object_keys.journal_key("journal", examples.CHANNEL, 1)
    store.client.delete_object(Bucket=store.settings.bucket, Key=store.key(key))
    examples.promote(store, "journal", second, pointer)
    assert history(store, "journal") == [second, first]
    assert len(list(store.list_names("journal/journal/"))) == 2


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema_version": 1, "version": "x"}'])
def test_a_channel_that_holds_no_pointer_is_refused(store: ObjectStore, content: bytes) -> None:
    key = object_keys.channel_key("odd", examples.CHANNEL)
    store.client.put_object(Bucket=store.settings.bucket, Key=store.key(key), Body=content)
    with pytest.raises(StageError, match="restore it from the last record of the journal"):
        read_pointer(store, "odd")
