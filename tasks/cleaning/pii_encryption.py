"""Values that stand for personal data: a keyed hash, or an encryption that the key undoes.

Equal values stay equal, so rows can be joined.
"""

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tasks.core import settings
from tasks.core.errors import ConfigError, StageError

KEY_VARIABLE = settings.variable_name("pii_key")
MIN_KEY_BYTES = 32
DERIVED_KEY_BYTES = 64
KEY_ID_DIGITS = 16
HASH_DIGITS = 16  # hexadecimal digits that are kept: 64 bits
KEYED_ACTIONS = ("hash", "encrypt")
KINDS_WITH_SEPARATORS = ("phone", "card", "iban", "id")
SEPARATORS = re.compile(r"[^\w+]|_")  # all but letters, digits and plus
ENCRYPTED_PATTERN = re.compile(r"\[([a-z]+):enc:([A-Za-z0-9_-]+)\]")

Replacement = Callable[[str, str], str]  # from a kind and a value to what replaces the value


def derive_key(purpose: str) -> bytes:
    """Derive 64 bytes from the key in the environment (HKDF, Krawczyk and Eronen 2010).

    Raises:
        ConfigError: The key is missing or weak.
    """
    secret = decode_secret()
    derivation = HKDF(SHA256(), DERIVED_KEY_BYTES, None, f"millrace pii {purpose}".encode())
    return derivation.derive(secret)


def decode_secret() -> bytes:
    """Read the key from the environment.

    Raises:
        ConfigError: The key is missing or weak.
    """
    key = settings.read_settings().pii_key
    text = key.get_secret_value() if key else ""
    try:
        secret = base64.b64decode(text, validate=True)
    except ValueError:
        secret = b""
    if len(secret) >= MIN_KEY_BYTES:
        return secret
    problem = f"is not 32 bytes or more in base64 ({len(text)} characters)"
    raise ConfigError(
        f"pii: the environment variable {KEY_VARIABLE} {problem if text else 'is not set'}: "
        f"make a key with `openssl rand -base64 32`, keep it safe, and export it before the run."
    )


def compute_key_id(rules: Iterable[str | Mapping[str, Mapping[str, object]]]) -> str | None:
    """Return a name for the key that does not reveal it, if a cleaning rule uses the key.

    The replaced values depend on the key, so whoever caches them needs its name.
    """
    with_arguments = [rule for rule in rules if isinstance(rule, Mapping)]
    actions = [rule["pii"].get("action") for rule in with_arguments if "pii" in rule]
    if not set(actions) & set(KEYED_ACTIONS):
        return None
    return derive_key("name").hex()[:KEY_ID_DIGITS]


def build_hasher() -> Replacement:
    """Return a function from a kind and a value to [email:3fa2b1c49d0e5f67].

    The digits are the beginning of the value's HMAC-SHA-256. Letter case does not count, nor do
    the separators of numbers.
    """
    key = derive_key("hash")

    def hash_value(kind: str, value: str) -> str:
        message = f"{kind}:{normalize_value(kind, value)}".encode()
        return f"[{kind}:{hmac.digest(key, message, 'sha256').hex()[:HASH_DIGITS]}]"

    return hash_value


def normalize_value(kind: str, value: str) -> str:
    """Return what ways to write one value have in common."""
    if kind == "url":
        return value
    folded = value.casefold()
    return SEPARATORS.sub("", folded) if kind in KINDS_WITH_SEPARATORS else folded


def build_encrypter() -> Replacement:
    """Return a function from a kind and a value to [email:enc:…].

    AES-SIV (Rogaway and Shrimpton 2006; RFC 5297) is deterministic and detects changes.
    """
    cipher = AESSIV(derive_key("encrypt"))

    def encrypt_value(kind: str, value: str) -> str:
        encrypted = cipher.encrypt(value.encode(), [kind.encode()])
        return f"[{kind}:enc:{base64.urlsafe_b64encode(encrypted).decode().rstrip('=')}]"

    return encrypt_value


def decrypt_text(text: str) -> str:
    """Restore all encrypted values in a text.

    Raises:
        StageError: A value was encrypted with another key, or changed since.
    """
    cipher = AESSIV(derive_key("encrypt"))

    def decrypt_match(match: re.Match[str]) -> str:
        kind, encrypted = match.groups()
        padding = "=" * (-len(encrypted) % 4)
        try:
            value = base64.urlsafe_b64decode(encrypted + padding)
            return cipher.decrypt(value, [kind.encode()]).decode()
        except (InvalidTag, ValueError):
            line = text.count("\n", 0, match.start()) + 1
            raise StageError(describe_wrong_key(kind, line)) from None

    return ENCRYPTED_PATTERN.sub(decrypt_match, text)


def describe_wrong_key(kind: str, line: int) -> str:
    """Describe why a value cannot be decrypted."""
    return (
        f"line {line}: the {kind} there was encrypted with another key than {KEY_VARIABLE} holds, "
        f"or was changed since: set the key of that run."
    )
