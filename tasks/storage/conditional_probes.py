"""Probes of conditional writes, on which every move of a pointer rests."""

import contextlib
import copy
import datetime
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tasks.core.errors import RetryableError, StageError
from tasks.storage import files
from tasks.storage.object_store import ObjectStore, WriteOutcomeUnknown

PROBES_PREFIX = "probes/"
PASSED_FOLDER = Path(".millrace/probes")
PASSED_HOURS = 24  # for so long a store that has passed is not asked again
N_WRITERS = 8
N_RACES = 3
CLEAR_ATTEMPTS = 3
CLEAR_SECONDS = 0.2
CONTENT_BYTES = 16


class ProbeError(Exception):
    """What is relied on is not so."""


@dataclass
class Scratch:
    """A part of the store for objects of probes alone.

    Attributes:
        store: The store.
        prefix: What the names of the objects begin with.
        names: The objects that were written.
    """

    store: ObjectStore
    prefix: str = field(default_factory=lambda: f"{PROBES_PREFIX}{secrets.token_hex(8)}/")
    names: list[str] = field(default_factory=list)

    def new_name(self) -> str:
        """Return the name of an object that does not exist yet."""
        name = f"{self.prefix}{secrets.token_hex(4)}"
        self.names.append(name)
        return name

    def clear(self) -> None:
        """Delete the objects, and look whether they are gone: a write that came late may be back.

        Raises:
            StageError: Some cannot be deleted; the others are.
        """
        failures: list[StageError] = []
        for attempt in range(CLEAR_ATTEMPTS):
            time.sleep(CLEAR_SECONDS * attempt)
            failures = self.delete_once()
            if not self.names:
                return
        if failures:
            raise failures[0]

    def delete_once(self) -> list[StageError]:
        """Try to delete each object; return why some cannot be."""
        failures = []
        for name in list(self.names):
            try:
                self.store.delete(name)
                if self.store.size(name) is None:
                    self.names.remove(name)
            except StageError as error:
                failures.append(error)
        return failures


def probe_create_once(scratch: Scratch) -> str:
    """Create an object twice."""
    name = scratch.new_name()
    if not write(scratch.store, name, b"first", None):
        raise ProbeError("an object that did not exist could not be created")
    if write(scratch.store, name, b"second", None):
        raise ProbeError("a write that may only create an object has replaced one")
    require_content(scratch.store, name, b"first")
    return "an object that exists is not created again"


def probe_compare_and_swap(scratch: Scratch) -> str:
    """Write an object by the ETag that it had before, and by another's."""
    name = scratch.new_name()
    write(scratch.store, name, b"first", None)
    stale = read_etag(scratch.store, name)
    if not write(scratch.store, name, b"second", stale):
        raise ProbeError("a write that names the object's ETag was refused")
    if write(scratch.store, name, b"third", stale):
        raise ProbeError("a write that names an ETag which the object had before has replaced it")
    require_content(scratch.store, name, b"second")
    return "a write that comes too late is refused"


def probe_race(scratch: Scratch) -> str:
    """Let several writers create an object at once, and then replace it."""
    n_races = 1 if scratch.store.settings.lock else N_RACES  # in turns there is nothing to race
    for _ in range(n_races):
        race_twice(scratch.store, scratch.new_name())
    return f"one of {N_WRITERS} writers at once has won, {2 * n_races} times"


def probe_race_without_lock(scratch: Scratch) -> str:
    """Let writers race who do not take turns. Two may win: the lock is there for that."""
    store = copy.copy(scratch.store)
    store.settings = store.settings._replace(lock=None)
    try:
        race_twice(store, scratch.new_name())
    except ProbeError as error:
        return f"{error}; as all writers of this workspace take turns, none of theirs is lost"
    return f"one of {N_WRITERS} writers at once has won, 2 times"


CONDITIONAL_PROBES: dict[str, Callable[[Scratch], str]] = {
    "create once": probe_create_once,
    "compare-and-swap": probe_compare_and_swap,
    f"race of {N_WRITERS}": probe_race,
}


def write(store: ObjectStore, name: str, data: bytes, etag: str | None) -> bool:
    """Write an object on a condition; return whether the store says that it has.

    Raises:
        RetryableError: It says neither.
    """
    try:
        return store.put_if_match(name, data, etag)
    except WriteOutcomeUnknown:
        raise RetryableError(f"{store.settings.address}: a write got no answer.") from None


def read_etag(store: ObjectStore, name: str) -> str:
    """Return the ETag of an object that was written."""
    stored = store.get(name)
    if stored is None:
        raise ProbeError("an object that was written is not there")
    return stored[1]


def require_content(store: ObjectStore, name: str, data: bytes) -> None:
    """Raise ProbeError unless an object holds these bytes."""
    stored = store.get(name)
    if stored is None or stored[0] != data:
        raise ProbeError("an object holds other bytes than the last write that was accepted")


def race_twice(store: ObjectStore, name: str) -> None:
    """Let several writers create an object at once, and then replace it.

    Raises:
        ProbeError: Not exactly one of them has won.
    """
    race(store, name, None)
    race(store, name, read_etag(store, name))


def race(store: ObjectStore, name: str, etag: str | None) -> None:
    """Let several writers write an object at once, on the same condition.

    Raises:
        ProbeError: Not exactly one of them has won.
    """
    start = threading.Barrier(N_WRITERS)
    # Equal contents would have equal ETags, and the next writer would meet the condition again.
    contents = [secrets.token_bytes(CONTENT_BYTES) for _ in range(N_WRITERS)]

    def attempt(content: bytes) -> bool | None:
        start.wait()
        try:
            return store.put_if_match(name, content, etag)
        except WriteOutcomeUnknown:
            return None

    with ThreadPoolExecutor(N_WRITERS) as pool:
        outcomes = dict(zip(contents, pool.map(attempt, contents), strict=True))
    winners = [content for content, has_won in outcomes.items() if has_won]
    if len(winners) > 1:
        raise ProbeError(f"{len(winners)} of {N_WRITERS} writers at once were told that they won")
    stored = store.get(name)
    unknown = [content for content, has_won in outcomes.items() if has_won is None]
    if stored is None or stored[0] not in (winners or unknown):
        raise ProbeError(f"none of {N_WRITERS} writers at once has won, or its write was lost")


def require_conditional_writes(store: ObjectStore) -> None:
    """Raise StageError unless the store honours conditional writes.

    A store that has passed is not asked again for a day.
    """
    if is_recent(passed_path(store)):
        return
    scratch = Scratch(store)
    try:
        for probe in CONDITIONAL_PROBES.values():
            probe(scratch)
    except ProbeError as error:
        raise StageError(
            f"{store.settings.address} does not honour conditional writes ({error}), so two "
            "promotions could both win: use a store that does. `millrace doctor` shows all that "
            "was tried."
        ) from None
    finally:
        with contextlib.suppress(StageError):  # who may not delete may promote all the same
            scratch.clear()
    record_outcome(store, is_passed=True)


def passed_path(store: ObjectStore) -> Path:
    """Return the file that says when a store has passed."""
    return PASSED_FOLDER / f"{store.identity}.json"


def record_outcome(store: ObjectStore, *, is_passed: bool) -> None:
    """Note that a store honours conditional writes, or that it is not known to."""
    path = passed_path(store)
    if is_passed:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        files.write_json(path, {"store": store.settings.address, "time": now})
    else:
        path.unlink(missing_ok=True)


def is_recent(path: Path) -> bool:
    """Return whether a store has passed lately."""
    try:
        passed = datetime.datetime.fromisoformat(files.read_json(path)["time"])
        age = datetime.datetime.now(datetime.UTC) - passed
    except (StageError, KeyError, TypeError, ValueError):
        return False
    return datetime.timedelta(0) <= age < datetime.timedelta(hours=PASSED_HOURS)
