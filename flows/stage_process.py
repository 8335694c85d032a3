"""Running a stage as a process: in its own session, its output line by line, with a deadline, and never left behind."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from tasks.core.errors import ERROR_BY_KIND, RetryableError, StageError

GRACE_SECONDS = 3.0
POLL_SECONDS = 0.2
WORKSPACE_VARIABLE, RUN_VARIABLE = (
    "MILLRACE_WORKSPACE",
    "MILLRACE_RUN",
)  # in the environment of all that a run starts, so that what a killed run left can be found


def run_process(
    command: Sequence[str],
    log: Callable[[str], None],
    timeout: float,
    what: str,
    measured: dict[str, Any] | None = None,
) -> list[str]:
    """Run a command to its end and return its lines. Whatever ends this call, an exception included, ends the whole process group.

    What the step noted of its use of memory and energy is put into `measured`.

    Raises Retryable or Failure as the step's status file says, and Retryable where it was killed or took longer than `timeout` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        status = Path(folder) / "status.json"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {
            **os.environ,
            **build_marker_variables(),
            "PATH": path,
            "MILLRACE_STATUS": str(status),
            "PYTHONUNBUFFERED": "1",
            "DVC_NO_ANALYTICS": "1",
        }
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        lines: list[str] = []
        try:
            for line in read_lines(process, timeout, what):
                lines.append(line)
                log(line)
        finally:
            end_process_group(process)
        told = read_status(status)
        if measured is not None:
            measured.update(told.get("measured", {}))
        if process.returncode != 0:
            raise build_error(told, lines, what)
        return lines


def build_marker_variables() -> dict[str, str]:
    """The variables that say which workspace a process works for, and the process of the run that started it."""
    return {WORKSPACE_VARIABLE: str(Path.cwd()), RUN_VARIABLE: str(os.getpid())}


def read_lines(process: "subprocess.Popen[str]", timeout: float, what: str) -> Iterator[str]:
    """The lines of a process as they come; ends with it, or with Retryable at the deadline. Polls, so that a signal is handled at once."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout
        with contextlib.suppress(ValueError):
            for line in process.stdout:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + timeout
    while time.monotonic() <= deadline:
        try:
            line = lines.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            process.wait()
            return
        yield line
    raise RetryableError(
        f"{what} took longer than its limit of {timeout:g} s and was stopped: raise `timeout` in its meta in dvc.yaml, or find out what hangs."
    )


def end_process_group(process: "subprocess.Popen[str]") -> None:
    """End every process of the stage's session: a terminated dvc leaves its command running."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while is_group_alive(process) and time.monotonic() < deadline:
            time.sleep(0.02)
    process.wait()


def is_group_alive(process: "subprocess.Popen[str]") -> bool:
    process.poll()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 0)
        return True
    return False


def read_status(status: Path) -> dict[str, Any]:
    """The note that a step has left, if it has."""
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(status.read_text()))
    return {"kind": "unknown", "reason": ""}


def build_error(told: dict[str, Any], lines: list[str], what: str) -> StageError:
    """Why the stage failed, from the note that its step left, or from the last line that says so."""
    if told["kind"] == "started":
        return RetryableError(
            f"{what} was killed from outside, perhaps for want of memory; it is taken up where it was."
        )
    if told["kind"] in ERROR_BY_KIND:
        return ERROR_BY_KIND[told["kind"]](str(told["reason"]))
    errors = [line for line in lines if line.startswith(("ERROR", "error"))] or lines[-1:]
    return StageError(f"{what}: {errors[-1] if errors else 'ended without a word'}")


def end_orphan_processes(log: Callable[[str], None]) -> None:
    """End the processes that a killed run of this workspace left behind. Call it only while holding the workspace's lock."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            if (
                process.pid not in mine
                and environment.get(WORKSPACE_VARIABLE) == str(Path.cwd())
                and not is_run_alive(process, environment.get(RUN_VARIABLE, ""))
            ):
                log(
                    f"ending process {process.pid} of a run that was killed: {' '.join(process.cmdline())[:100]}"
                )
                process.kill()
                left.append(process)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(is_alive(process) for process in left) and time.monotonic() < deadline:
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """A zombie does not: it only waits for the machine's first process to count it, which may take seconds."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def is_run_alive(process: psutil.Process, owner: str) -> bool:
    """Whether the run that started the process still lives, as one does that is about to find the workspace taken; a younger process only has its number."""
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        return psutil.Process(int(owner)).create_time() <= process.create_time()
    return False


def repair_dvc_locks(log: Callable[[str], None]) -> None:
    """Delete DVC's rwlock where a kill has left half of it, or nothing but entries of the dead; every command would stop at it.

    DVC itself forgives the dead, but takes a zombie for a living process.
    """
    path = Path(".dvc/tmp/rwlock")
    try:
        held = json.loads(path.read_text() or "{}")
        readers = [holder for holders in held.get("read", {}).values() for holder in holders]
        holders = {holder["pid"] for holder in [*readers, *held.get("write", {}).values()]}
        if not holders or any(
            one.pid in holders and is_alive(one) for one in psutil.process_iter()
        ):
            return
        log(f"deleting {path}, which a killed run has left")
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError):
        log(f"deleting {path}, which a killed run has left truncated")
    path.unlink()
