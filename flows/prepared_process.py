"""Starting DVC's processes as forks of a prepared interpreter, which lives as long as the run."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import reduction
from typing import IO

import psutil

from flows.fork_server import TITLE_ROOM, ForkRequest, PollRequest
from flows.stage_process import Process, is_alive, start_process
from tasks.core.errors import RetryableError

POLL_SECONDS = 0.01
IS_SUPPORTED = sys.platform == "linux"  # elsewhere, what libraries do at import forbids forks
KILLED = -signal.SIGKILL
SERVERS: list["ForkServer"] = []  # at most one, started when it is needed


class ForkServer:
    """The prepared interpreter of a run, and the requests to it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it. It imports while the run goes on."""
        self.connection, theirs = multiprocessing.Pipe()
        # A signal that ends the run interrupts its main thread alone, so never half a message.
        self.executor = ThreadPoolExecutor(max_workers=1)
        handle = theirs.fileno()
        command = [sys.executable, "-m", "flows.fork_server", str(handle), "-" * TITLE_ROOM]
        try:
            self.process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[handle],
            )
        finally:
            theirs.close()

    def fork(self, request: ForkRequest, output: int) -> int:
        """Start a child; return its process id.

        Args:
            request: What it runs.
            output: The pipe for what it prints.

        Raises:
            RetryableError: The server was killed.
        """
        try:
            pid = self.executor.submit(self.exchange, request, output).result()
        except (EOFError, OSError):
            self.end()
            raise RetryableError(
                "The process from which stages are started was killed, possibly by the "
                "out-of-memory killer."
            ) from None
        except BaseException:
            self.end()  # nobody would know the child
            raise
        assert pid is not None  # only a question about a child is answered by None
        return pid

    def poll(self, pid: int) -> int | None:
        """Return the exit status of a child, None while it runs.

        If the server was killed, nobody knows how its children ended.
        """
        if not self.connection.closed:
            with contextlib.suppress(EOFError, OSError):
                return self.executor.submit(self.exchange, PollRequest(pid)).result()
        with contextlib.suppress(psutil.NoSuchProcess):
            return None if is_alive(psutil.Process(pid)) else KILLED
        return KILLED

    def exchange(self, request: ForkRequest | PollRequest, output: int | None = None) -> int | None:
        """Send a request, with an open file if there is one; return the answer."""
        self.connection.send(request)
        if output is not None:
            reduction.send_handle(self.connection, output, self.process.pid)
        answer: int | None = self.connection.recv()
        return answer

    def is_alive(self) -> bool:
        """Return whether it can start children."""
        return self.process.poll() is None and not self.connection.closed

    def end(self) -> None:
        """End it with all that is below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.kill()
        self.process.wait()
        self.executor.shutdown()
        self.connection.close()


class ForkedProcess:
    """A child of the server, with the part of Popen's interface that a run needs."""

    def __init__(self, server: ForkServer, request: ForkRequest) -> None:
        """Start it."""
        reader, writer = os.pipe()
        self.server = server
        self.returncode: int | None = None
        self.stdout: IO[str] | None = os.fdopen(reader, errors="replace")
        try:
            self.pid = server.fork(request, writer)
        finally:
            os.close(writer)

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        if self.returncode is None:
            self.returncode = self.server.poll(self.pid)
        return self.returncode

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        while self.poll() is None:
            time.sleep(POLL_SECONDS)
        assert self.returncode is not None
        return self.returncode


def start_dvc(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    recipe: str,
    extra: Mapping[str, str],
) -> Process:
    """Start `python -m dvc ...`, which sees one recipe alone, from the run's server.

    Args:
        command: The command.
        environment: The variables of the server and of the command.
        recipe: The recipe's name.
        extra: Further variables of the command.
    """
    variables = {**environment, **extra}
    if not IS_SUPPORTED:
        return start_process(command, variables)
    if not (SERVERS and SERVERS[0].is_alive()):
        end_server()
        SERVERS.append(ForkServer(environment))
    request = ForkRequest(command, variables, recipe)
    return ForkedProcess(SERVERS[0], request)


def end_server() -> None:
    """End the run's server, if it has one."""
    while SERVERS:
        SERVERS.pop().end()
