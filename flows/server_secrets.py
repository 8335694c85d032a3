"""What guards the embedded store: an access key, signing keys and certificates.

Only the S3 port of SeaweedFS asks for credentials by itself. Without HTTP its master and filer
answer nothing but gRPC, and its volume server wants requests that are signed with keys which nobody
but the server knows. gRPC of all its parts wants a certificate that only the server holds: without
it, whoever has an account on this machine could delete the bucket.
"""

import datetime
import json
import os
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.storage import files

SERVER_FOLDER = Path(".millrace/s3")
CREDENTIALS_FILE = SERVER_FOLDER / "s3.json"
CERTIFICATE_FILE = SERVER_FOLDER / "certificate.pem"
CERTIFICATE_KEY_FILE = SERVER_FOLDER / "certificate.key"
BUCKET = "millrace"
ACTIONS = ("Admin", "Read", "Write", "List")
SIGNING_KEY_VARIABLES = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)
SIGNING_KEY_BYTES = 32
AUTHORITY_VARIABLE = "WEED_GRPC_CA"
GRPC_PARTS = ("MASTER", "VOLUME", "FILER", "S3", "ADMIN", "WORKER", "CLIENT")
CERTIFICATE_NAME = "millrace"
CERTIFICATE_DAYS = 3650  # longer than a server runs; each start makes another


def create_server_variables() -> dict[str, str]:
    """Return the variables of a server that nobody else can talk to but through S3.

    Its certificate is made anew, in the server's folder.
    """
    signing_keys = {name: secrets.token_hex(SIGNING_KEY_BYTES) for name in SIGNING_KEY_VARIABLES}
    write_certificate()
    return {**os.environ, **signing_keys, **name_certificate()}


def name_certificate() -> dict[str, str]:
    """Return the variables that name the certificate, for the server or a client of its gRPC."""
    certificate = str(CERTIFICATE_FILE.absolute())
    key = str(CERTIFICATE_KEY_FILE.absolute())
    variables = {AUTHORITY_VARIABLE: certificate}
    for part in GRPC_PARTS:
        variables[f"WEED_GRPC_{part}_CERT"] = certificate
        variables[f"WEED_GRPC_{part}_KEY"] = key
    return variables


def write_certificate() -> None:
    """Write a certificate that signs itself, and its key.

    It is authority, server and client in one: all of them are the same process.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, CERTIFICATE_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(CERTIFICATE_NAME)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(names, critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    private_key = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files.write_private(CERTIFICATE_KEY_FILE, private_key)
    public = certificate.public_bytes(serialization.Encoding.PEM)
    files.write_private(CERTIFICATE_FILE, public)


def load_or_create_credentials() -> tuple[str, str]:
    """Return the server's first key and its secret; they are created on first use."""
    if not CREDENTIALS_FILE.exists():
        files.write_private(CREDENTIALS_FILE, files.encode_json(create_credentials()))
    identity, *_ = json.loads(CREDENTIALS_FILE.read_text())["identities"]
    [credentials] = identity["credentials"]
    return credentials["accessKey"], credentials["secretKey"]


def create_credentials() -> dict[str, object]:
    """Return a configuration of the server with a random key that may use the bucket."""
    credentials = {
        "accessKey": secrets.token_hex(10),
        "secretKey": secrets.token_urlsafe(30),
    }
    identity = {
        "name": "millrace",
        "credentials": [credentials],
        "actions": [f"{action}:{BUCKET}" for action in ACTIONS],
    }
    return {"identities": [identity]}
