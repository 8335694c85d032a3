"""Values that stand for personal data: a keyed hash, or an encryption that the key's owner can undo. Equal values stay equal, so that rows can be joined."""

import base64
import hmac
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tasks.core.errors import ConfigError, StageError

KEY_VARIABLE = "MILLRACE_PII_KEY"
ENCRYPTED_PATTERN = re.compile(r"\[([a-z]+):enc:([A-Za-z0-9_-]+)\]")


def derive_key(use: str) -> bytes:
    """64 bytes for one use, derived (HKDF, Krawczyk and Eronen 2010) from the key in the environment. Raises Mistake where that is missing or weak."""
    given = os.environ.get(KEY_VARIABLE, "")
    try:
        secret = base64.b64decode(given, validate=True)
    except ValueError:
        secret = b""
    if len(secret) < 32:
        problem = (
            f"is not 32 bytes or more in base64 ({len(given)} characters)"
            if given
            else "is not set"
        )
        raise ConfigError(
            f"pii: the environment variable {KEY_VARIABLE} {problem}: make a key with `openssl rand -base64 32`, keep it safe, and export it before the run."
        )
    return HKDF(SHA256(), 64, None, f"millrace pii {use}".encode()).derive(secret)


def compute_key_id(rules: Iterable[Any]) -> str | None:
    """A name for the key that does not give it away, where one of these cleaning rules hashes or encrypts: with another key the values change."""
    keyed = any(
        isinstance(rule, dict) and rule.get("pii", {}).get("action") in ("hash", "encrypt")
        for rule in rules
    )
    return derive_key("name").hex()[:16] if keyed else None


def build_hasher() -> Callable[[str, str], str]:
    """From a kind and a value to its HMAC-SHA-256, the first 64 bits: [email:3fa2b1c49d0e5f67]. Case and, for numbers, separators do not count."""
    key = derive_key("hash")

    def write(kind: str, value: str) -> str:
        plain = value if kind == "url" else value.casefold()
        if kind in ("phone", "card", "iban", "id"):
            plain = "".join(letter for letter in plain if letter.isalnum() or letter == "+")
        return f"[{kind}:{hmac.digest(key, f'{kind}:{plain}'.encode(), 'sha256').hex()[:16]}]"

    return write


def build_encrypter() -> Callable[[str, str], str]:
    """From a kind and a value to [email:enc:…], by AES-SIV (Rogaway and Shrimpton 2006; RFC 5297), which is deterministic and notices changes."""
    cipher = AESSIV(derive_key("encrypt"))
    return lambda kind, value: (
        f"[{kind}:enc:{base64.urlsafe_b64encode(cipher.encrypt(value.encode(), [kind.encode()])).decode().rstrip('=')}]"
    )


def decrypt_text(text: str) -> str:
    """The text with all encrypted values restored. Raises Failure where one was not encrypted with this key."""
    cipher = AESSIV(derive_key("encrypt"))

    def value(match: re.Match[str]) -> str:
        try:
            return cipher.decrypt(
                base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4)), [match[1].encode()]
            ).decode()
        except (InvalidTag, ValueError):
            line = text.count("\n", 0, match.start()) + 1
            told = f"line {line}: the {match[1]} there was encrypted with another key than {KEY_VARIABLE} holds, or was changed since: set the key of that run."
            raise StageError(told) from None

    return ENCRYPTED_PATTERN.sub(value, text)
