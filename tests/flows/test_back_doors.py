"""The embedded store is no back door: without credentials nobody reads, changes or deletes."""

import json
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from flows import embedded_s3, server_secrets
from tasks.registry import channel_pointer, manifests, object_keys
from tasks.registry.registry import Registry
from tasks.storage.object_store import ObjectStore
from tests.registry import examples
from tests.storage import s3_answers

FORGED_POINTER = json.dumps({"version": "evil", "generation": 9}).encode()
METHODS = ("GET", "PUT", "POST", "DELETE")
MASTER_PATHS = (
    "/dir/assign",
    "/dir/lookup?fileId=1,0123456789",
    f"/col/delete?collection={server_secrets.BUCKET}",
)
GRPC_PORTS = [f"{service}.port.grpc" for service in embedded_s3.SERVICES]
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_FRAME = 4
SOCKETS = embedded_s3.SOCKET_FOLDER
ANSWER_SECONDS = 60
NO_ANSWER_SECONDS = 5  # the shell tries to connect for ever


def read_ports(store: ObjectStore) -> dict[str, str]:
    """Return the ports of the embedded server, by their names on its command line."""
    ports = {}
    for word in find_server(store).cmdline():
        name, _, value = word.removeprefix("-").partition("=")
        if name.partition(".")[2] in ("port", "port.grpc"):
            ports[name] = value
    return ports


def find_server(store: ObjectStore) -> psutil.Process:
    """Return the process of the embedded server."""
    _, _, s3_port = str(store.settings.endpoint).rpartition(":")
    for process in psutil.process_iter(["cmdline"]):
        command: list[str] = process.info["cmdline"] or []
        if f"-s3.port={s3_port}" in command:
            return process
    raise LookupError


@pytest.fixture
def guarded(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with a model in production."""
    version = examples.publish(registry, "guarded", tmp_path / "model", "good" * 5000)
    current = channel_pointer.read_pointer(registry, "guarded", examples.CHANNEL)
    if current is None:
        assert examples.promote(registry, "guarded", version, current).won
    return registry


@pytest.mark.parametrize(
    ("server", "path"),
    [
        ("filer", "/buckets/{bucket}/{pointer}"),
        ("filer", "/buckets/{bucket}"),
        ("volume", "/1,0123456789"),
    ],
)
def test_nothing_is_read_replaced_or_deleted_without_credentials(
    guarded: Registry, tmp_path: Path, server: str, path: str
) -> None:
    before = channel_pointer.read_pointer(guarded, "guarded", examples.CHANNEL)
    assert before
    pointer = guarded.store.key(object_keys.channel_key("guarded", examples.CHANNEL))
    path = path.format(bucket=guarded.store.settings.bucket, pointer=pointer)
    url = f"http://127.0.0.1:{read_ports(guarded.store)[f'{server}.port']}{path}?recursive=true"
    for method in METHODS:
        upload = {"file": FORGED_POINTER} if method in ("PUT", "POST") else None
        response = httpx.request(method, url, files=upload, trust_env=False)
        refusals = (401,) if server == "volume" else (401, 403, 404)
        assert response.status_code in refusals, method
        assert b"good" not in response.content

    assert channel_pointer.read_pointer(guarded, "guarded", examples.CHANNEL) == before
    folder = manifests.fetch_version(guarded, "guarded", before.version, tmp_path / "cache")
    assert (folder / "model.txt").read_text() == "good" * 5000


@pytest.mark.parametrize("path", MASTER_PATHS)
def test_the_master_answers_nobody(store: ObjectStore, path: str) -> None:
    port = read_ports(store)["master.port"]
    response = httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)
    assert response.status_code == 404
    assert "authorization" not in response.headers


@pytest.mark.parametrize("name", GRPC_PORTS)
def test_each_grpc_port_wants_the_certificate_of_the_server(
    store: ObjectStore, tmp_path: Path, name: str
) -> None:
    port = int(read_ports(store)[name])
    own = find_server(store).environ()
    foreign = s3_answers.write_certificate(tmp_path / "foreign.pem")
    assert is_greeted(port, own["WEED_GRPC_CLIENT_CERT"], own["WEED_GRPC_CLIENT_KEY"])
    assert not is_greeted(port)
    assert not is_greeted(port, str(foreign))
    assert not is_greeted_without_encryption(port)


def is_greeted(port: int, certificate: str = "", key: str | None = None) -> bool:
    """Return whether a server answers the greeting of HTTP/2 over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if certificate:
        context.load_cert_chain(certificate, key)
    with socket.create_connection((embedded_s3.LOOPBACK, port), ANSWER_SECONDS) as connection:
        try:
            with context.wrap_socket(connection) as encrypted:
                return is_greeting_answered(encrypted)
        except (ssl.SSLError, ConnectionError):
            return False


def is_greeted_without_encryption(port: int) -> bool:
    """Return whether a server answers the greeting of HTTP/2 as it is."""
    with socket.create_connection((embedded_s3.LOOPBACK, port), ANSWER_SECONDS) as connection:
        try:
            return is_greeting_answered(connection)
        except ConnectionError:
            return False


def is_greeting_answered(connection: socket.socket) -> bool:
    """Return whether settings of HTTP/2 follow the greeting."""
    connection.sendall(HTTP2_GREETING)
    frame = connection.recv(9)
    return len(frame) == 9 and frame[3] == SETTINGS_FRAME


def test_the_shell_of_the_server_does_nothing_without_its_certificate(
    guarded: Registry, tmp_path: Path
) -> None:
    store = guarded.store
    channel = object_keys.channel_key("guarded", examples.CHANNEL)
    before = store.get(channel)
    folder = f"/buckets/{store.settings.bucket}"
    attacks = [
        f"fs.cat {folder}/{store.key(channel)}",
        f"fs.rm {folder}/{store.key(channel)}",
        f"s3.bucket.delete -name {store.settings.bucket}",
        "s3.configure -user evil -access_key a -secret_key b -actions Admin -apply",
    ]
    assert "generation" not in run_shell(store, tmp_path, attacks, {}, NO_ANSWER_SECONDS)
    assert before
    assert store.get(channel) == before

    own = find_server(store).environ()
    secrets = {name: value for name, value in own.items() if name.startswith("WEED_")}
    assert store.put_if_match("victim", b"generation", None)
    harmless = [attack.replace(store.key(channel), store.key("victim")) for attack in attacks[:2]]
    assert "generation" in run_shell(store, tmp_path, harmless, secrets, ANSWER_SECONDS)
    assert store.get("victim") is None


def run_shell(
    store: ObjectStore,
    folder: Path,
    commands: list[str],
    variables: dict[str, str],
    seconds: float,
) -> str:
    """Return what the shell of SeaweedFS prints until it ends, or until it is ended."""
    ports = read_ports(store)
    servers = [
        f"-{part}=127.0.0.1:{ports[f'{part}.port']}.{ports[f'{part}.port.grpc']}"
        for part in ("master", "filer")
    ]
    shell = [embedded_s3.find_program(), "-logtostderr", "shell", *servers]
    with (folder / "printed").open("w+") as printed:
        process = subprocess.Popen(
            shell, stdin=subprocess.PIPE, stdout=printed, stderr=printed, cwd=folder, env=variables
        )
        try:
            process.communicate("\n".join(["lock", *commands, ""]).encode(), seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        printed.seek(0)
        return printed.read()


def test_the_server_listens_nowhere_else(store: ObjectStore) -> None:
    connections = find_server(store).net_connections("all")
    listening = {
        (item.laddr.ip, str(item.laddr.port)) for item in connections if item.status == "LISTEN"
    }
    assert listening == {(embedded_s3.LOOPBACK, port) for port in read_ports(store).values()}
    sockets = {Path(str(item.laddr)) for item in connections if isinstance(item.laddr, str)}
    named = [path for path in sockets if path.is_socket()]
    assert named
    assert not [path for path in named if path.stat().st_mode & 0o077]


def test_a_server_that_has_ended_leaves_no_socket(here: Path) -> None:
    with embedded_s3.open_store() as store:
        ports = read_ports(store).values()
        sockets = [path for path in SOCKETS.glob("seaweedfs-*") if path.stem.endswith(tuple(ports))]
        assert sockets
    assert not [path for path in sockets if path.exists()]
