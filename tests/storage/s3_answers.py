"""A server that gives each request the same answer, and keeps what it was asked."""

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = "127.0.0.1"
EMPTY_LIST = "<ListBucketResult><Name>models</Name></ListBucketResult>"
ERROR = "<Error><Code>{code}</Code><Message>no</Message></Error>"


@dataclass
class EmptyBucket:
    """The server's address, and the paths and signatures of its requests."""

    endpoint: str
    paths: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def regions(self) -> set[str]:
        """The regions that requests were signed for."""
        return {signature.split("/")[2] for signature in self.authorizations}


@dataclass(frozen=True)
class Answer:
    """What the server answers, and how many seconds its clock is ahead."""

    status: int = 200
    body: str = EMPTY_LIST
    seconds_ahead: int = 0


def refusal(code: str, status: int = 403) -> Answer:
    """The answer of a server that refuses each request."""
    return Answer(status, ERROR.format(code=code))


@contextlib.contextmanager
def serve(answer: Answer, certificate: Path | None = None) -> Iterator[EmptyBucket]:
    """Serve, over TLS if there is a certificate with its key."""
    server = ThreadingHTTPServer((LOOPBACK, 0), BaseHTTPRequestHandler)
    scheme = "https" if certificate else "http"
    bucket = EmptyBucket(f"{scheme}://{LOOPBACK}:{server.server_port}")
    body = answer.body.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bucket.paths.append(self.path)
            bucket.authorizations.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815  the names that the library calls

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + answer.seconds_ahead)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server.RequestHandlerClass = Handler
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()


def serve_empty_bucket(
    certificate: Path | None = None,
) -> contextlib.AbstractContextManager[EmptyBucket]:
    """Serve an empty bucket."""
    return serve(Answer(), certificate)


@contextlib.contextmanager
def serve_nothing() -> Iterator[str]:
    """Accept connections, and never answer; yield the address."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield f"http://{LOOPBACK}:{server.getsockname()[1]}"


def write_certificate(path: Path) -> Path:
    """Write a certificate of loopback, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
