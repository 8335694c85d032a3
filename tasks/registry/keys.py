"""The keys of this machine: one that signs what is published, and those whose signatures count.

<folder>/signing.pem          the private key, readable by its owner alone
<folder>/trusted/<id>.pem     public keys that are believed; several while keys change
<folder>/revoked/<id>.pem     public keys that are believed no longer

The folder lies outside the bucket. A machine that only reads holds public keys alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.core.errors import ConfigError, StageError
from tasks.core.settings import read_settings
from tasks.storage import files
from tasks.storage.layout import shared_path
from tasks.storage.locks import file_lock

KEY_ID_DIGITS = 16
FOLDER_MODE = 0o700


@dataclass(frozen=True)
class SigningKey:
    """A private key, and the id of its public key."""

    key_id: str
    private: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Keyring:
    """The keys of a machine.

    Attributes:
        folder: Where they lie.
        signer: The key that signs; None on a machine that only reads.
        trusted: Public keys whose signatures count, by id.
        revoked: Public keys whose signatures count no longer, by id.
    """

    folder: Path
    signer: SigningKey | None
    trusted: Mapping[str, ec.EllipticCurvePublicKey]
    revoked: Mapping[str, ec.EllipticCurvePublicKey]

    def require_signer(self) -> SigningKey:
        """Return the key that signs.

        Raises:
            StageError: This machine has none, or it is revoked.
        """
        if self.signer is None:
            raise StageError(
                f"{self.folder} holds no private key, so this machine reads versions but cannot "
                "sign one: `millrace keys new` makes a key; trust its public key where versions "
                "are read."
            )
        if self.signer.key_id not in self.trusted:
            raise StageError(
                f"The private key {self.signer.key_id} in {self.folder} is not trusted here (it "
                "was revoked, or its public key is missing): `millrace keys new` makes another."
            )
        return self.signer


def default_folder() -> Path:
    """Return the folder of the keys: MILLRACE_KEYS, or one that all worktrees share."""
    return read_settings().keys or shared_path(".millrace/keys")


def load_keyring(folder: Path) -> Keyring:
    """Read the keys of a folder; a folder that does not exist holds none.

    Raises:
        StageError: A file is no key, or its passphrase is missing or wrong.
    """
    trusted = read_public_keys(folder / "trusted")
    revoked = read_public_keys(folder / "revoked")
    return Keyring(
        folder=folder,
        signer=read_signing_key(signing_path(folder)),
        trusted={key_id: key for key_id, key in trusted.items() if key_id not in revoked},
        revoked=revoked,
    )


def load_or_create_keyring(folder: Path) -> tuple[Keyring, bool]:
    """Read the keys of a folder; make a pair if it holds none at all.

    Returns:
        The keys, and whether a pair was made.
    """
    prepare_folder(folder)
    with file_lock(folder / "lock"):  # two first runs must not make two pairs
        keyring = load_keyring(folder)
        if keyring.signer or keyring.trusted or keyring.revoked:
            return keyring, False
        create_signing_key(folder)
        return load_keyring(folder), True


def create_signing_key(folder: Path) -> str:
    """Make a key pair, trust its public key, and keep its private key; return its id.

    The private key is encrypted if MILLRACE_KEY_PASSPHRASE is set. A private key that is there is
    replaced; its public key stays trusted until it is revoked.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    prepare_folder(folder)
    key_id = trust_key(folder, private.public_key())
    write_private_key(signing_path(folder), private)
    return key_id


def trust_key(folder: Path, key: ec.EllipticCurvePublicKey) -> str:
    """Trust a public key from now on; return its id.

    Raises:
        StageError: It was revoked.
    """
    key_id = derive_key_id(key)
    if key_path(folder, "revoked", key_id).exists():
        raise StageError(
            f"The key {key_id} was revoked: to trust it again all the same, delete "
            f"{key_path(folder, 'revoked', key_id)}."
        )
    prepare_folder(folder)
    files.write_text(key_path(folder, "trusted", key_id), encode_public_key(key).decode())
    return key_id


def revoke_key(folder: Path, key_id: str) -> None:
    """Trust a key no longer.

    Raises:
        ConfigError: No key has this id.
    """
    path = key_path(folder, "trusted", key_id)
    if not path.is_file():
        known = ", ".join(sorted(load_keyring(folder).trusted)) or "none"
        raise ConfigError(f"{key_id} is no trusted key of {folder}; trusted keys: {known}.")
    target = key_path(folder, "revoked", key_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)


def read_public_keys(folder: Path) -> dict[str, ec.EllipticCurvePublicKey]:
    """Read the public keys of a folder, by id."""
    keys = [parse_public_key(path.read_bytes(), str(path)) for path in sorted(folder.glob("*.pem"))]
    return {derive_key_id(key): key for key in keys}


def parse_public_key(data: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """Read a public key on P-256 from PEM.

    Raises:
        StageError: It is another thing.
    """
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StageError(
            f"{name} is not a public key on the curve P-256 in PEM format "
            "(`-----BEGIN PUBLIC KEY-----`): `millrace keys new` makes such keys."
        )
    return key


def read_signing_key(path: Path) -> SigningKey | None:
    """Read a private key on P-256 from PEM; None without a file.

    Raises:
        StageError: It is another thing, or the passphrase is missing or wrong.
    """
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:
        raise StageError(
            f"Others than its owner may read or change the private key {path}: "
            f"`chmod 600 {path}`; if anybody may have read it, make another by `millrace keys new`."
        )
    passphrase = read_passphrase()
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), passphrase)
    except TypeError:
        cure = "unset" if passphrase else "set"
        state = "not encrypted" if passphrase else "encrypted"
        raise StageError(
            f"The private key {path} is {state}: {cure} MILLRACE_KEY_PASSPHRASE."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise StageError(
            f"{path} is not a private key on the curve P-256 in PEM format, or "
            "MILLRACE_KEY_PASSPHRASE is not its passphrase."
        )
    return SigningKey(derive_key_id(key.public_key()), key)


def write_private_key(path: Path, private: ec.EllipticCurvePrivateKey) -> None:
    """Write a private key as PEM that only its owner may read."""
    passphrase = read_passphrase()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    data = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    files.write_private(path, data)


def read_passphrase() -> bytes | None:
    """Return the passphrase of the private key; None if it has none."""
    passphrase = read_settings().key_passphrase
    return passphrase.get_secret_value().encode() if passphrase else None


def encode_public_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def derive_key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return a key's id: the first hex digits of its hash."""
    return hash_public_key(key)[:KEY_ID_DIGITS]


def hash_public_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return the sha256 of a key's PEM encoding, by which Sigstore bundles name it."""
    return hashlib.sha256(encode_public_key(key)).hexdigest()


def derive_tuf_key_id(key: ec.EllipticCurvePublicKey) -> str:
    """Return the id that securesystemslib gives a key.

    It is the sha256 of canonical JSON, in which line ends are not escaped.
    """
    pem = encode_public_key(key).decode()
    text = f'{{"keytype":"ecdsa","keyval":{{"public":"{pem}"}},"scheme":"ecdsa-sha2-nistp256"}}'
    return hashlib.sha256(text.encode()).hexdigest()


def signing_path(folder: Path) -> Path:
    """Return the path of the private key."""
    return folder / "signing.pem"


def key_path(folder: Path, state: str, key_id: str) -> Path:
    """Return the path of a public key that is `trusted` or `revoked`."""
    return folder / state / f"{key_id}.pem"


def prepare_folder(folder: Path) -> None:
    """Create the folder of the keys; only its owner may enter it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
