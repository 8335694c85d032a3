"""The promotion protocol against a real S3 server."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from tasks.contracts.gate_verdict import Verdict
from tasks.core.errors import RetryableError, StageError
from tasks.registry import channel_pointer, journal, moves, object_keys
from tasks.registry.channel_pointer import CurrentPointer
from tasks.registry.registry import Registry
from tests.registry import examples


def read_pointer(registry: Registry, model: str) -> CurrentPointer | None:
    return channel_pointer.read_pointer(registry, model, examples.CHANNEL)


def history(registry: Registry, model: str) -> list[str]:
    """The versions that were promoted, newest first."""
    records = journal.read_history(registry, model, examples.CHANNEL).records
    return [record.version for record in records]


def publish_two(registry: Registry, model: str, folder: Path) -> list[str]:
    return [examples.publish(registry, model, folder / name, name) for name in "ab"]


def test_exactly_one_of_eight_concurrent_promotions_wins_and_losers_say_who(
    registry: Registry, tmp_path: Path
) -> None:
    versions = [
        examples.publish(registry, "race", tmp_path / str(number), f"content {number}")
        for number in range(8)
    ]
    expected = None
    for generation in (1, 2, 3):
        attempt = partial(examples.promote, registry, "race", expected=expected)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(attempt, versions))
        winners = [version for version, result in zip(versions, results, strict=True) if result.won]
        current = read_pointer(registry, "race")
        assert current
        assert current.generation == generation
        assert winners == [current.version]
        for result in results:
            assert result.current
            assert result.current.version == current.version
        expected = current
    records = journal.read_history(registry, "race", examples.CHANNEL).records
    assert [record.generation for record in records] == [3, 2, 1]


def test_a_pointer_that_returned_to_an_older_version_lets_no_stale_writer_pass(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = publish_two(registry, "aba", tmp_path)
    stale = examples.promote(registry, "aba", first, None).current
    between = examples.promote(registry, "aba", second, stale).current
    back = examples.promote(registry, "aba", first, between).current
    assert stale
    assert back
    assert back.version == stale.version
    assert not examples.promote(registry, "aba", second, stale).won
    assert read_pointer(registry, "aba") == back


def test_a_promotion_whose_answer_is_lost_has_won(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = examples.publish(registry, "lost", tmp_path, "model")
    put = registry.store.client.put_object

    def lose_answer(**arguments: Any) -> None:
        put(**arguments)
        raise ReadTimeoutError(endpoint_url="http://127.0.0.1")

    monkeypatch.setattr(registry.store.client, "put_object", lose_answer)
    result = examples.promote(registry, "lost", version, None)
    assert result.won
    assert result.current
    assert result.current.generation == 1


def test_a_promotion_that_a_client_repeats_silently_has_won(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish_two(registry, "repeated", tmp_path)
    pointer = examples.promote(registry, "repeated", first, None).current
    put = registry.store.client.put_object

    def put_twice(**arguments: Any) -> Any:
        put(**arguments)
        return put(**arguments)  # as a client does that got no answer; the store refuses it

    monkeypatch.setattr(registry.store.client, "put_object", put_twice)
    assert examples.promote(registry, "repeated", second, pointer).won
    assert history(registry, "repeated") == [second, first]


def test_a_promotion_that_did_not_happen_may_be_tried_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish_two(registry, "away", tmp_path)
    pointer = examples.promote(registry, "away", first, None).current
    put = registry.store.client.put_object

    def fail_on_pointer(**arguments: Any) -> Any:
        if "/channels/" in arguments["Key"]:
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1")
        return put(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(registry.store.client, "put_object", fail_on_pointer)
        sentence = "the move of away production got no answer and did not happen"
        with pytest.raises(RetryableError, match=sentence):
            examples.promote(registry, "away", second, pointer)
    assert examples.promote(registry, "away", second, pointer).won
    assert history(registry, "away") == [second, first]


@pytest.mark.parametrize(("outcome", "champion"), [("reject", None), ("promote", "another")])
def test_evidence_for_another_champion_or_verdict_promotes_nothing(
    registry: Registry, tmp_path: Path, outcome: Verdict, champion: str | None
) -> None:
    version = examples.publish(registry, "closed", tmp_path, "x")
    evidence = examples.evidence("closed", version, outcome, champion)
    with pytest.raises(StageError, match="does not allow this promotion"):
        moves.promote(registry, examples.promotion(evidence))
    assert read_pointer(registry, "closed") is None


def test_a_journal_record_that_a_killed_promotion_left_out_is_written_by_the_next(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = publish_two(registry, "journal", tmp_path)
    pointer = examples.promote(registry, "journal", first, None).current
    key = object_keys.journal_key("journal", examples.CHANNEL, 1)
    registry.store.client.delete_object(
        Bucket=registry.store.settings.bucket, Key=registry.store.key(key)
    )
    examples.promote(registry, "journal", second, pointer)
    assert history(registry, "journal") == [second, first]
    assert len(list(registry.store.list_names("journal/journal/"))) == 2


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"schema_version": 1, "version": "x"}'])
def test_a_channel_that_holds_no_pointer_is_refused(registry: Registry, content: bytes) -> None:
    examples.put(registry, object_keys.channel_key("odd", examples.CHANNEL), content)
    with pytest.raises(StageError, match="`millrace doctor --repair RECIPE` restores it"):
        read_pointer(registry, "odd")
