"""What every step shares: its errors, its exit status and its entry point."""

import contextlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tasks.core import errors
from tasks.core.errors import ConfigError, RetryableError, StageError

RUN_MEASUREMENTS: dict[
    str, Any
] = {}  # what the run record is to say of this stage besides its time


def write_status(kind: str, reason: str = "") -> None:
    """Tell whoever supervises this process how it stands. DVC ends with 255 whatever the step's status was, so a file has to carry it."""
    path = os.environ.get("MILLRACE_STATUS")
    if path:
        Path(path).write_text(
            json.dumps(
                {
                    "kind": kind,
                    "reason": reason,
                    "measured": {**RUN_MEASUREMENTS, **measure_peak_memory()},
                }
            )
        )


def measure_peak_memory() -> dict[str, int]:
    """The most memory that this process and its GPU have held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (
        20 if sys.platform == "darwin" else 10
    )  # there in bytes, here in KiB
    with contextlib.suppress(
        OSError, StopIteration
    ):  # on Linux that counts the process that started this one too
        peak = (
            int(
                next(
                    line
                    for line in Path("/proc/self/status").read_text().splitlines()
                    if line.startswith("VmHWM")
                ).split()[1]
            )
            >> 10
        )
    torch = sys.modules.get("torch")
    gpu = (
        {"peak_gpu_mib": torch.cuda.max_memory_allocated() >> 20}
        if torch and torch.cuda.is_available()
        else {}
    )
    return {"peak_memory_mib": peak, **gpu}


def main(step: Callable[[str], None], argv: list[str] | None = None) -> NoReturn:
    """Run `step(recipe)` for `python -m tasks.<step> RECIPE` and end with the status that says whether another try could help."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(
            f"usage: python -m {step.__module__ if step.__module__ != '__main__' else 'tasks.' + step.__name__} RECIPE",
            file=sys.stderr,
        )
        sys.exit(errors.EXIT_CONFIG_ERROR)
    write_status("started")
    try:
        step(arguments[0])
    except StageError as failure:
        exit_with_error(failure)
    except MemoryError:
        exit_with_error(
            StageError(
                f"{step.__name__} ran out of memory: use a machine with more, or a smaller batch or data set."
            )
        )
    except OSError as error:
        exit_with_error(convert_os_error(error, step.__name__))
    except Exception as error:
        traceback.print_exc()
        exit_with_error(
            StageError(
                f"{step.__name__} met an error that it does not know: {type(error).__name__}: {error}"
            )
        )
    write_status("done")
    sys.exit(0)


def convert_os_error(error: OSError, step: str) -> StageError:
    """A sentence for an error of the operating system; a full disk is the usual one."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno == 28:
        return StageError(
            f"No space is left on the disk{where} while {step} was writing: free some space and run it again; nothing half-written was kept."
        )
    if isinstance(error, (ConnectionError, TimeoutError)):
        return RetryableError(f"{step} lost a connection: {error}.")
    return StageError(f"{step} could not read or write{where}: {error.strerror or error}.")


def exit_with_error(failure: StageError) -> NoReturn:
    kind = (
        "retryable"
        if isinstance(failure, RetryableError)
        else "mistake"
        if isinstance(failure, ConfigError)
        else "final"
    )
    write_status(kind, str(failure))
    print(f"error: {failure}", file=sys.stderr, flush=True)
    sys.exit(failure.exit_status)
