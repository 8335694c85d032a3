"""A promoter that is killed after any of its writes: readers see old or new, a rerun completes."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tasks.registry import channel_pointer, journal, manifests, verification
from tasks.registry.registry import Registry
from tests.registry import examples
from tests.registry.examples import CHANNEL

WRITES = ("put_object", "upload_fileobj", "delete_object")


class Killed(BaseException):
    """The process ends here; nothing that it would have done next happens."""


@contextmanager
def kill_after(registry: Registry, count: int) -> Iterator[None]:
    """Let so many writes to the store happen, and end the promoter after the last of them."""
    numbers = itertools.count(1)
    client = registry.store.client

    def interrupt(name: str) -> Any:
        write = getattr(client, name)

        def write_or_die(*arguments: Any, **options: Any) -> Any:
            number = next(numbers)
            if number > count:
                raise Killed
            result = write(*arguments, **options)
            if number == count:
                raise Killed
            return result

        return write_or_die

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(client, name, interrupt(name))
        yield


def test_a_promoter_killed_after_any_write_leaves_old_or_new_and_a_rerun_completes(
    registry: Registry, tmp_path: Path
) -> None:
    for count in itertools.count(1):
        model = f"killed-{count}"
        first = examples.publish(registry, model, tmp_path / model / "a", f"first {model}")
        pointer = examples.promote(registry, model, first, None).current
        assert pointer

        def publish_and_promote(model: str = model, folder: Path = tmp_path / model / "b") -> str:
            version = examples.publish(registry, model, folder, f"second {model}")
            current = channel_pointer.read_pointer(registry, model, CHANNEL)
            assert current
            if current.version != version:
                assert examples.promote(registry, model, version, current).won
            return version

        try:
            with kill_after(registry, count):
                publish_and_promote()
            completed = True
        except Killed:
            completed = False
        check_reader(registry, model, first, tmp_path / model / "cache")
        second = publish_and_promote()
        history = journal.read_history(registry, model, CHANNEL)
        assert [record.version for record in history.records] == [second, first], count
        assert history.faults == []
        checks = list(verification.verify_model(registry, model))
        assert [check.fault for check in checks if check.fault] == []
        if completed:
            break
    assert count > 6  # blob, provenance, manifest, signature, evidence, pointer, journal


def check_reader(registry: Registry, model: str, first: str, cache: Path) -> None:
    """A reader gets a whole version, the old one or the new one."""
    current = channel_pointer.read_pointer(registry, model, CHANNEL)
    assert current
    folder = manifests.fetch_version(registry, model, current.version, cache)
    expected = "first" if current.version == first else "second"
    assert (folder / "model.txt").read_text() == f"{expected} {model}"
    assert journal.read_history(registry, model, CHANNEL).faults == []
