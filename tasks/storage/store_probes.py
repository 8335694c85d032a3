"""Probes of what is relied on in a store: each tries it on objects of its own, which it deletes."""

import base64
import contextlib
import datetime
import email.utils
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tasks.core.errors import StageError
from tasks.storage import conditional_probes, s3_errors
from tasks.storage.conditional_probes import ProbeError, Scratch
from tasks.storage.object_store import ObjectStore

OK = "ok"
FAILED = "failed"
NOT_TRIED = "not tried"
N_REPETITIONS = 5
# Servers refuse requests whose time differs from theirs by more than 15 minutes.
MAX_CLOCK_SECONDS = 300
UNKNOWN_KEY_CODES = {"InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "401"}


@dataclass(frozen=True)
class ProbeResult:
    """What a probe came to.

    Attributes:
        name: What was tried.
        state: `ok`, `failed` or `not tried`.
        sentence: What was seen, or why it was not tried.
    """

    name: str
    state: str
    sentence: str


@dataclass(frozen=True)
class Answer:
    """What the server answers when it is asked to list the bucket.

    Attributes:
        code: The code of its error; empty if it lists.
        sentence: The sentence for that error.
        date: The time that it tells; empty if it tells none.
    """

    code: str
    sentence: str
    date: str


@dataclass(frozen=True)
class Step:
    """A probe with its name, and the names of those without which it makes no sense."""

    name: str
    probe: Callable[[Scratch], str]
    needs: tuple[str, ...] = ()


def ask(store: ObjectStore) -> Answer:
    """Ask the server to list the bucket. An error is an answer too."""
    from botocore.exceptions import ClientError

    with store.raise_readable_errors():
        try:
            response = store.request_listing()
        except ClientError as error:
            response = error.response
            sentence = str(s3_errors.describe_refusal(store.settings, error))
            code = s3_errors.get_error_code(error)
        else:
            code = sentence = ""
    date = response["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    return Answer(code, sentence, date)


def probe_server(scratch: Scratch) -> str:
    """Ask the server anything."""
    ask(scratch.store)
    return f"{scratch.store.connection.endpoint or 'AWS'} answers"


def probe_clock(scratch: Scratch) -> str:
    """Compare the clock of this machine with the server's."""
    date = ask(scratch.store).date
    if not date:
        raise ProbeError("the server's answers tell no time")
    now = datetime.datetime.now(datetime.UTC)
    seconds = (now - email.utils.parsedate_to_datetime(date)).total_seconds()
    side = "ahead of" if seconds > 0 else "behind"
    difference = f"this machine's clock is {abs(seconds):,.0f} s {side} the server's"
    if abs(seconds) > MAX_CLOCK_SECONDS:
        raise ProbeError(f"{difference}: set the wrong one; servers refuse more than 15 minutes")
    return difference


def probe_credentials(scratch: Scratch) -> str:
    """Find out whether the server knows who asks."""
    answer = ask(scratch.store)
    if answer.code in UNKNOWN_KEY_CODES | s3_errors.EXPIRED_CODES | s3_errors.CLOCK_CODES:
        raise ProbeError(answer.sentence)
    return "the server knows the credentials"


def probe_bucket(scratch: Scratch) -> str:
    """Find out whether the bucket is there."""
    answer = ask(scratch.store)
    bucket = scratch.store.settings.bucket
    if answer.code in s3_errors.MISSING_BUCKET_CODES:
        raise ProbeError(answer.sentence)
    if answer.code:
        return f"whether {bucket} exists is not told to these credentials"
    return f"{bucket} exists"


def probe_list(scratch: Scratch) -> str:
    """List the bucket."""
    answer = ask(scratch.store)
    if answer.code:
        raise ProbeError(answer.sentence)
    return "the credentials may list"


def probe_write(scratch: Scratch) -> str:
    """Write an object."""
    name = f"{scratch.prefix}object"
    scratch.store.put(name, b"probe")
    scratch.names.append(name)
    return "the credentials may write"


def probe_read(scratch: Scratch) -> str:
    """Read the object, which may be missing."""
    scratch.store.get(f"{scratch.prefix}object")
    return "the credentials may read"


def probe_delete(scratch: Scratch) -> str:
    """Delete what the probes have written, and an object that does not exist."""
    scratch.store.delete(f"{scratch.prefix}nothing")
    scratch.clear()
    return "the credentials may delete; the probes have left nothing behind"


def probe_read_after_write(scratch: Scratch) -> str:
    """Read an object at once after each change."""
    name = scratch.new_name()
    for number in range(N_REPETITIONS):
        scratch.store.put(name, f"version {number}".encode())
        conditional_probes.require_content(scratch.store, name, f"version {number}".encode())
    return "what was written is read at once"


def probe_list_after_write(scratch: Scratch) -> str:
    """List objects at once after they were written and deleted."""
    name = scratch.new_name()
    for _ in range(N_REPETITIONS):
        scratch.store.put(name, b"probe")
        if name not in scratch.store.list_names(scratch.prefix):
            raise ProbeError("an object that was written is not listed")
        scratch.store.delete(name)
        if name in scratch.store.list_names(scratch.prefix):
            raise ProbeError("an object that was deleted is still listed")
    return "what was written or deleted is listed so at once"


def probe_checksum(scratch: Scratch) -> str:
    """Write an object with the checksum of other bytes."""
    from botocore.exceptions import ClientError

    store = scratch.store
    checksum = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    with store.raise_readable_errors():
        try:
            store.client.put_object(
                Bucket=store.settings.bucket,
                Key=store.key(scratch.new_name()),
                Body=b"probe",
                ChecksumSHA256=checksum,
            )
        except ClientError as error:
            return f"a wrong checksum is refused ({s3_errors.get_error_code(error)})"
    raise ProbeError(
        "a wrong checksum was accepted: damage on the way is noticed only by reading back, which "
        "every publication does"
    )


WRITE_AND_READ = ("may write", "may read")
STEPS = (
    Step("server", probe_server),
    Step("clock", probe_clock, ("server",)),
    Step("credentials", probe_credentials, ("server",)),
    Step("bucket", probe_bucket, ("credentials",)),
    Step("may list", probe_list, ("bucket",)),
    Step("may write", probe_write, ("bucket",)),
    Step("may read", probe_read, ("bucket",)),
    Step("read after write", probe_read_after_write, WRITE_AND_READ),
    Step("list after write", probe_list_after_write, ("may list", "may write")),
    Step("wrong checksum", probe_checksum, ("may write",)),
    *(
        Step(name, probe, WRITE_AND_READ)
        for name, probe in conditional_probes.CONDITIONAL_PROBES.items()
    ),
    Step("may delete", probe_delete, ("bucket",)),
)
RACE_AFTER_START = Step("race just after a start", conditional_probes.probe_race_without_lock)


def probe_store(store: ObjectStore, *, is_just_started: bool = False) -> list[ProbeResult]:
    """Try all that is relied on.

    Args:
        store: The store.
        is_just_started: Whether it is an embedded server that started this moment; then writers
            race on it before anything else is tried.
    """
    scratch = Scratch(store)
    results: dict[str, ProbeResult] = {}
    try:
        for step in (RACE_AFTER_START, *STEPS) if is_just_started else STEPS:
            results[step.name] = run_step(step, scratch, results)
    finally:
        with contextlib.suppress(StageError):
            scratch.clear()
    return list(results.values())


def run_step(step: Step, scratch: Scratch, results: Mapping[str, ProbeResult]) -> ProbeResult:
    """Try one thing, unless one that it needs has failed."""
    for name in step.needs:
        if results[name].state != OK:
            return ProbeResult(step.name, NOT_TRIED, f"it needs: {name}")
    try:
        return ProbeResult(step.name, OK, step.probe(scratch))
    except (ProbeError, StageError) as error:
        return ProbeResult(step.name, FAILED, str(error).rstrip("."))


def honours_conditional_writes(results: Iterable[ProbeResult]) -> bool:
    """Return whether all probes of conditional writes have passed."""
    return all(
        result.state == OK
        for result in results
        if result.name in conditional_probes.CONDITIONAL_PROBES
    )
