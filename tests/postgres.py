"""A real PostgreSQL on loopback for tests, in a temporary folder, or why there is none."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows.embedded_s3 import find_free_ports

USER, PASSWORD = "reader", "s3cret-of-the-database"
MISSING = "PostgreSQL is not installed: apt-get install postgresql"


@dataclass
class Server:
    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://{USER}:${{PG_PASSWORD}}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements: str) -> None:
        import psycopg

        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            for statement in statements:
                connection.execute(statement)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()


def program(name: str) -> str | None:
    paths = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(paths[-1]) if paths else shutil.which(name)


def as_owner() -> list[str] | None:
    """Return the prefix of a command that runs it as another user than root.

    PostgreSQL refuses root. The prefix is empty for other users, and None if nobody can be had.
    """
    if os.getuid():
        return []
    return (
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        if shutil.which("setpriv") and known("postgres")
        else None
    )


def known(user: str) -> bool:
    return subprocess.run(["id", user], capture_output=True).returncode == 0


@contextlib.contextmanager
def running() -> Iterator[Server | None]:
    """The server, ended by its process id; None where it cannot be had."""
    initdb, postgres, owner = program("initdb"), program("postgres"), as_owner()
    if not initdb or not postgres or owner is None:
        yield None
        return
    folder = Path(
        tempfile.mkdtemp(prefix="millrace-pg-")
    )  # not below pytest's folders, which other users may not enter
    server: Server | None = None
    try:
        (folder / "password").write_text(PASSWORD)
        if owner:
            subprocess.run(["chown", "-R", "postgres", folder], check=True)
        options: list[str | Path] = [
            "-D",
            folder / "data",
            "-U",
            USER,
            f"--pwfile={folder / 'password'}",
            "-N",
        ]
        options += ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C"]
        made = subprocess.run(
            [*owner, initdb, *options],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr
        [port] = find_free_ports(1)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *owner,
                    postgres,
                    "-D",
                    folder / "data",
                    "-p",
                    str(port),
                    "-h",
                    "127.0.0.1",
                    "-k",
                    folder,
                    "-F",
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        server = Server(folder, port, process)
        wait(server)
        yield server
    finally:
        if server and server.process.poll() is None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def wait(server: Server) -> None:
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            server.execute("select 1")
            return
        except psycopg.OperationalError:
            assert server.process.poll() is None and time.monotonic() < deadline, (
                server.folder / "log"
            ).read_text(errors="replace")
            time.sleep(0.1)
