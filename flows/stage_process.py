"""Running a stage as a process: its output line by line, with a deadline, and never left behind."""

import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import psutil

from tasks.core.errors import ERROR_BY_KIND, RetryableError, StageError
from tasks.core.settings import variable_name

GRACE_SECONDS = 3.0  # between the polite signal and the kill
POLL_SECONDS = 0.2
SLEEP_SECONDS = 0.02
MAX_SHOWN_CHARACTERS = 100
STATUS_VARIABLE = variable_name("status")
# In the environment of all that a run starts, so that what a killed run left can be found.
WORKSPACE_VARIABLE = variable_name("workspace")
RUN_VARIABLE = variable_name("run")
DVC_LOCK_FILE = Path(".dvc/tmp/rwlock")


class Process(Protocol):
    """A process that leads a session, such as subprocess.Popen."""

    pid: int
    returncode: int | None
    stdout: IO[str] | None

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        ...

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        ...


Starter = Callable[[Mapping[str, str]], Process]  # takes the variables of the process
OnLine = Callable[[str], None]
OnProgress = Callable[[Mapping[str, tuple[int, int]]], None]


@dataclass(frozen=True)
class StageStatus:
    """What a stage's process has written to its status file.

    Attributes:
        kind: `started`, `done`, the kind of an error, or `unknown` without a file.
        reason: The error's sentence.
        progress: Steps done and steps in all, by unit.
        measurements: What the process used, such as its peak memory.
    """

    kind: str = "unknown"
    reason: str = ""
    progress: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    measurements: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessResult:
    """What a process printed, and what it measured of itself."""

    lines: list[str]
    measurements: Mapping[str, float | str]


def run_process(
    command: Sequence[str],
    name: str,
    timeout: float,
    on_line: OnLine,
    on_progress: OnProgress | None = None,
) -> ProcessResult:
    """Run a command in an interpreter of its own to its end, as `supervise` does."""
    start = functools.partial(start_process, command)
    return supervise(start, name, timeout, on_line, on_progress)


def supervise(
    start: Starter,
    name: str,
    timeout: float,
    on_line: OnLine,
    on_progress: OnProgress | None = None,
) -> ProcessResult:
    """Run a process to its end. Whatever ends this call ends the whole process group.

    Args:
        start: Starts the process.
        name: What it is, for messages.
        timeout: Its limit in seconds.
        on_line: Called with each line that it prints.
        on_progress: Called with the progress that a stage reports.

    Raises:
        RetryableError: It was killed, took too long, or met an error that may pass.
        StageError: It failed otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        status_path = Path(folder) / "status.json"
        process = start(build_environment(status_path))
        lines: list[str] = []
        try:
            for line in poll_lines(process, timeout, name):
                if on_progress:
                    on_progress(read_status(status_path).progress)
                if line is not None:
                    lines.append(line)
                    on_line(line)
        finally:
            end_process_group(process)
        status = read_status(status_path)
        if process.returncode != 0:
            raise build_error(status, lines, name)
        return ProcessResult(lines, status.measurements)


def build_environment(status_path: Path) -> dict[str, str]:
    """Return the variables of a stage's process."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {
        **os.environ,
        **build_marker_variables(),
        "PATH": path,
        STATUS_VARIABLE: str(status_path),
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def start_process(
    command: Sequence[str], environment: Mapping[str, str]
) -> "subprocess.Popen[str]":
    """Start a command in a session of its own."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        env=environment,
        start_new_session=True,
    )


def build_marker_variables() -> dict[str, str]:
    """Return the variables that say which workspace and which run a process belongs to."""
    return {WORKSPACE_VARIABLE: str(Path.cwd()), RUN_VARIABLE: str(os.getpid())}


def poll_lines(process: Process, timeout: float, name: str) -> Iterator[str | None]:
    """Yield the lines of a process as they come, and None while there is none.

    It polls, so that a signal is handled at once.

    Raises:
        RetryableError: The process has not ended at the deadline.
    """
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=read_lines, args=(process, lines), daemon=True).start()
    deadline = time.monotonic() + timeout
    while time.monotonic() <= deadline:
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            yield None
            continue
        if line is None:
            process.wait()
            return
        yield line
    raise RetryableError(
        f"{name} took longer than its limit of {timeout:g} s and was stopped: raise `timeout` in "
        "its meta in dvc.yaml, or find out what hangs."
    )


def read_lines(process: Process, lines: "queue.Queue[str | None]") -> None:
    """Put the lines of a process into a queue, and None at their end."""
    if process.stdout is None:
        raise ValueError("the process has no pipe")
    with contextlib.suppress(ValueError):  # the pipe is closed
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def end_process_group(process: Process) -> None:
    """End every process of the stage's session: a terminated dvc leaves its command running."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_number)
        deadline = time.monotonic() + GRACE_SECONDS
        while is_group_alive(process) and time.monotonic() < deadline:
            time.sleep(SLEEP_SECONDS)
    process.wait()


def is_group_alive(process: Process) -> bool:
    """Return whether any process of the session lives."""
    process.poll()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 0)
        return True
    return False


def read_status(path: Path) -> StageStatus:
    """Read the status file of a stage's process, if there is one."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return StageStatus()
    progress = content.get("progress", {})
    return StageStatus(
        kind=content["kind"],
        reason=content["reason"],
        progress={unit: (done, total) for unit, (done, total) in progress.items()},
        measurements=content.get("measured", {}),
    )


def build_error(status: StageStatus, lines: list[str], name: str) -> StageError:
    """Return why a process failed: from its status, or from the last line that says so."""
    if status.kind == "started":
        return RetryableError(
            f"{name} was killed, possibly by the out-of-memory killer. It will resume from its "
            "last checkpoint."
        )
    if status.kind in ERROR_BY_KIND:
        return ERROR_BY_KIND[status.kind](status.reason)
    errors = [line for line in lines if line.startswith(("ERROR", "error"))] or lines
    return StageError(f"{name}: {errors[-1] if errors else 'it ended without a message'}")


def end_orphan_processes(log: OnLine) -> None:
    """End the processes that a killed run of this workspace left behind.

    Call it only while holding the workspace's lock.
    """
    orphans = []
    for process in find_orphan_processes():
        with contextlib.suppress(psutil.Error):
            shown = " ".join(process.cmdline())[:MAX_SHOWN_CHARACTERS]
            log(f"ending process {process.pid} of a run that was killed: {shown}")
            process.kill()
            orphans.append(process)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(is_alive(process) for process in orphans) and time.monotonic() < deadline:
        time.sleep(SLEEP_SECONDS)


def find_orphan_processes() -> Iterator[psutil.Process]:
    """Yield the processes that a run of this workspace started which lives no more."""
    ancestors = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            is_of_workspace = environment.get(WORKSPACE_VARIABLE) == str(Path.cwd())
            if (
                is_of_workspace
                and process.pid not in ancestors
                and not is_run_alive(process, environment.get(RUN_VARIABLE, ""))
            ):
                yield process


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process lives. A zombie only waits to be counted, so it does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_run_alive(process: psutil.Process, run: str) -> bool:
    """Return whether the run that started a process lives.

    It may be one that is about to find the workspace taken. A younger process only has its id.

    Args:
        process: The process.
        run: The process id of the run, as it stands in the environment.
    """
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        return psutil.Process(int(run)).create_time() <= process.create_time()
    return False


def repair_dvc_locks(log: OnLine) -> None:
    """Delete DVC's rwlock if a kill left it truncated, or with nothing but dead holders.

    Every command of DVC would stop at it. DVC itself forgives the dead, but takes a zombie for a
    living process.
    """
    try:
        text = DVC_LOCK_FILE.read_text()
    except FileNotFoundError:
        return
    holders = parse_lock_holders(text)
    if holders is None:
        log(f"deleting {DVC_LOCK_FILE}, which a killed run has left truncated")
        DVC_LOCK_FILE.unlink()
    elif holders and not is_any_alive(holders):
        log(f"deleting {DVC_LOCK_FILE}, which a killed run has left")
        DVC_LOCK_FILE.unlink()


def parse_lock_holders(text: str) -> set[int] | None:
    """Return the ids of the processes that hold DVC's rwlock; None if it cannot be read."""
    try:
        content = json.loads(text or "{}")
        holders = list(content.get("write", {}).values())
        for readers in content.get("read", {}).values():
            holders += readers
        return {holder["pid"] for holder in holders}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def is_any_alive(process_ids: set[int]) -> bool:
    """Return whether one of the processes lives."""
    return any(
        process.pid in process_ids and is_alive(process) for process in psutil.process_iter()
    )
