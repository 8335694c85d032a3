"""The entry point that all stages share: exit status, status file, sentences for errors."""

import contextlib
import errno
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tasks.core import errors
from tasks.core.errors import RetryableError, StageError
from tasks.core.settings import read_settings

# What the run record says of this stage besides its time, such as its energy.
RUN_MEASUREMENTS: dict[str, float | int | str] = {}
# How far the stage is: `trial` and `step`, each as (done, total).
PROGRESS: dict[str, tuple[int, int]] = {}


def write_status(kind: str, reason: str = "") -> None:
    """Report this process's state to the run that supervises it.

    DVC exits with 255 whatever the stage's exit status was, so a file carries it.

    Args:
        kind: `started`, `done` or the kind of an error.
        reason: The error's sentence.
    """
    path = read_settings().status
    if path is None:
        return
    status = {
        "kind": kind,
        "reason": reason,
        "progress": PROGRESS,
        "measured": {**RUN_MEASUREMENTS, **measure_peak_memory()},
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(status))
    temporary.replace(path)  # the run may read it at any time


def report_progress(unit: str, done: int, total: int) -> None:
    """Report how many trials or steps are done. A new trial begins its steps anew.

    Args:
        unit: `trial` or `step`.
        done: How many are done.
        total: How many there will be.
    """
    if unit == "trial":
        PROGRESS.clear()
    PROGRESS[unit] = (done, total)
    write_status("started")


def measure_peak_memory() -> dict[str, int]:
    """Return the most memory that this process, and its GPU, have held so far, in MiB."""
    memory = {"peak_memory_mib": peak_resident_mib()}
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        memory["peak_gpu_mib"] = torch.cuda.max_memory_allocated() >> 20
    return memory


def peak_resident_mib() -> int:
    """Return the peak resident set size of this process in MiB.

    On Linux, `getrusage` counts the process that started this one too, so /proc is preferred.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) >> 10
    is_in_bytes = sys.platform == "darwin"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if is_in_bytes else 10)


def main(stage: Callable[[str], None], argv: list[str] | None = None) -> NoReturn:
    """Run `python -m tasks.<stage> RECIPE` and exit with a status that tells retryable from final.

    Args:
        stage: The stage's function, which takes the recipe's name.
        argv: The command line without the program; by default that of this process.
    """
    arguments = sys.argv[1:] if argv is None else argv
    name = stage.__name__
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(f"usage: python -m tasks.{name} RECIPE", file=sys.stderr)
        sys.exit(errors.EXIT_CONFIG_ERROR)
    try:
        write_status("started")
        stage(arguments[0])
    except StageError as error:
        exit_with_error(error)
    except MemoryError:
        exit_with_error(describe_memory_error(name))
    except OSError as error:
        exit_with_error(describe_os_error(error, name))
    except Exception as error:
        traceback.print_exc()
        exit_with_error(describe_unexpected_error(error, name))
    write_status("done")
    sys.exit(0)


def describe_memory_error(stage: str) -> StageError:
    """Return the error for a stage that ran out of memory."""
    return StageError(
        f"{stage} ran out of memory: use a machine with more memory, a smaller batch or less data."
    )


def describe_os_error(error: OSError, stage: str) -> StageError:
    """Return a sentence for an error of the operating system; a full disk is the usual one."""
    place = f" at {error.filename}" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return StageError(
            f"No space is left on the disk{place} while {stage} was writing: free some space and "
            "run it again; nothing half-written was kept."
        )
    if isinstance(error, ConnectionError | TimeoutError):
        return RetryableError(f"{stage} lost a connection: {error}.")
    return StageError(f"{stage} could not read or write{place}: {error.strerror or error}.")


def describe_unexpected_error(error: Exception, stage: str) -> StageError:
    """Return the error for an exception that nobody foresaw."""
    return StageError(
        f"{stage} failed with an unexpected {type(error).__name__}: {error} (traceback above). "
        "Please report it."
    )


def exit_with_error(error: StageError) -> NoReturn:
    """Report the error to the run and to the terminal, and exit with its status."""
    with contextlib.suppress(StageError):  # the settings themselves may be the error
        write_status(error.kind, str(error))
    print(f"error: {error}", file=sys.stderr, flush=True)
    sys.exit(error.exit_status)
