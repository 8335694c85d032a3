"""A prepared interpreter: DVC and what all stages import are loaded once, each stage is a fork.

    python -m flows.fork_server FD

A run starts it as a process of its own when the first stage has to run, and asks it over a socket
for children. Each child leads a session of its own, so it is ended, and outlives a killed run, as
any other process of a stage. The server ends when the run's end of the socket is closed.
"""

import atexit
import ctypes
import functools
import gc
import importlib
import multiprocessing
import os
import re
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import NoReturn

# Imported before the first fork. The threads of some, OpenBLAS's and Arrow's, begin anew after it.
PRELOADED = (
    "dvc.cli.parser",
    "dvc.commands.repro",
    "dvc.dvcfile",
    "dvc.output",
    "dvc.repo",
    "dvc.repo.reproduce",
    "dvc.stage.cache",
    "dvc.stage.run",
    "flows.dvc_recipe",
    "jinja2",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pyparsing",
    "ruamel.yaml",
    "scipy.special",
    "scipy.stats",
    "tasks.core.stage",
    "tasks.recipe.resolved",
    "tasks.storage.hashing",
)
OUR_PACKAGES = ("flows", "tasks")
STAGE_COMMAND = re.compile(r"python -m (tasks\.\w+) ([\w.-]+)")
TITLE_ROOM = 200  # characters for the title of a child, which takes the place of its arguments
END_OF_TITLE = b"."  # any byte but zero

Sources = dict[str, tuple[int, int]]  # time and size of files


@dataclass(frozen=True)
class ForkRequest:
    """What a run asks for: a child that runs a command of DVC.

    Attributes:
        command: The interpreter, `-m`, `dvc` and its arguments.
        environment: All of its variables.
        recipe: The one recipe that DVC is to see.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    recipe: str


@dataclass(frozen=True)
class PollRequest:
    """What a run asks for: the exit status of a child, or None while it runs.

    Attributes:
        pid: The child.
    """

    pid: int


def serve(connection: Connection) -> None:
    """Answer requests until the run closes its end."""
    for name in PRELOADED:
        importlib.import_module(name)
    sources = stat_sources()
    gc.freeze()  # a collection in a child would copy all pages
    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        if isinstance(request, PollRequest):
            connection.send(poll_child(request.pid))
            continue
        output = recv_handle(connection)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            connection.close()
            run_to_exit(functools.partial(run_request, request, output, sources))
        os.close(output)
        connection.send(pid)


def poll_child(pid: int) -> int | None:
    """Return the exit status of a child, negative for a signal; None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def run_request(request: ForkRequest, output: int, sources: Sources) -> None:
    """Run a command of DVC in this child, with its output in the run's pipe."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(request.environment)
    if not is_current(sources):  # the code has changed since: begin anew with it
        os.execve(sys.executable, list(request.command), dict(os.environ))  # noqa: S606
    from flows import dvc_recipe

    set_title(request.command)
    fork_stages_early(sources)
    dvc_recipe.narrow_dvc_to(request.recipe)
    run_module("dvc", request.command[3:])


def fork_stages_early(sources: Sources) -> None:
    """Let DVC run its stage in a child that is forked now, before DVC has threads and open files.

    Whatever is no command of a stage, DVC runs itself, and so every command after the first.
    """
    from dvc.stage import run
    from dvc.stage.exceptions import StageCmdFailedError

    run_in_shell = run._run
    waiting = [WaitingStage()]

    def run_command(
        executable: str, command: str, cwd: str, env: Mapping[str, str], **options: object
    ) -> None:
        match = STAGE_COMMAND.fullmatch(command)
        if not (match and waiting and is_current(sources)):
            run_in_shell(executable, command, cwd=cwd, env=env, **options)
            return
        exit_status = waiting.pop().run(match[1], [match[2]], cwd, env)
        if exit_status:
            raise StageCmdFailedError(command, exit_status)

    run._run = run_command


class WaitingStage:
    """A child of this process that waits to be told which module it shall run."""

    def __init__(self) -> None:
        """Fork it. It ends if this process does."""
        self.connection, theirs = multiprocessing.Pipe()
        flush_output()
        self.pid = os.fork()
        if self.pid == 0:
            self.connection.close()
            run_to_exit(functools.partial(run_stage, theirs))
        theirs.close()

    def run(
        self, module: str, arguments: Sequence[str], folder: str, environment: Mapping[str, str]
    ) -> int:
        """Run a module in the child; return its exit status."""
        flush_output()
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as DVC does: the stage decides
        try:
            self.connection.send((module, arguments, folder, dict(environment)))
            _, status = os.waitpid(self.pid, 0)
        finally:
            signal.signal(signal.SIGINT, handler)
            self.connection.close()
        return os.waitstatus_to_exitcode(status)


def run_stage(connection: Connection) -> None:
    """Wait for a module's name and run it in this child; end if there will be none."""
    try:
        module, arguments, folder, environment = connection.recv()
    except (EOFError, ConnectionResetError):
        return
    connection.close()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    set_title([sys.executable, "-m", module, *arguments])
    run_module(module, arguments)


def run_module(module: str, arguments: Sequence[str]) -> None:
    """Run a module as `python -m` does."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_to_exit(function: Callable[[], None]) -> NoReturn:
    """Run a function and end this process as an interpreter does, without going back."""
    exit_status = 1
    try:
        function()
        exit_status = 0
    except SystemExit as exit_:
        exit_status = read_exit_status(exit_)
    except BaseException:
        traceback.print_exc()
    finally:
        finish_threads()
        flush_output()
        os._exit(exit_status)


def read_exit_status(exit_: SystemExit) -> int:
    """Return the exit status that an interpreter would end with."""
    if exit_.code is None:
        return 0
    if isinstance(exit_.code, int):
        return exit_.code & 0xFF
    print(exit_.code, file=sys.stderr)
    return 1


def finish_threads() -> None:
    """Wait for threads, and call what was registered for the exit."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()


def flush_output() -> None:
    """Flush what was printed; nobody may read it any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue


def stat_sources() -> Sources:
    """Return time and size of each file of ours that was preloaded."""
    paths = [
        str(module.__file__)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in OUR_PACKAGES and getattr(module, "__file__", None)
    ]
    return {path: stat_file(path) for path in paths}


def is_current(sources: Sources) -> bool:
    """Return whether the preloaded code is what the files hold now."""
    return all(stat_file(path) == known for path, known in sources.items())


def stat_file(path: str) -> tuple[int, int]:
    """Return time and size of a file; zeros if it is gone."""
    try:
        status = Path(path).stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def set_title(command: Sequence[str]) -> None:
    """Let this process appear under a command line of its own, as in `ps`.

    Linux shows what stands where the arguments were. If the last byte there is not zero, it shows
    the text up to the first zero.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start = int(fields[45])
        end = int(fields[46])
    except (OSError, ValueError, IndexError):
        return
    if end - start < TITLE_ROOM or not start:
        return
    title = " ".join(command).encode()[: end - start - 2]
    room = title.ljust(end - start - 1, b"\0") + END_OF_TITLE
    ctypes.memmove(start, room, len(room))


if __name__ == "__main__":
    from flows import fork_server  # requests name their classes as of this module

    fork_server.serve(Connection(int(sys.argv[1])))
