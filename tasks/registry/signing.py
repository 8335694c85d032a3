"""Signatures: what is signed, and what has to hold before a signed object is believed.

The bytes that are signed are those of DSSE (github.com/secure-systems-lab/dsse): the kind of the
payload is signed with it, so that no payload can pass for one of another kind.
"""

import base64
import binascii
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tasks.contracts.signed import Signature, SignedContract
from tasks.core.errors import StageError
from tasks.registry.keys import Keyring

SignedT = TypeVar("SignedT", bound=SignedContract)
ALGORITHM = ec.ECDSA(hashes.SHA256())


class UntrustedError(StageError):
    """An object of the bucket is not believed. Nothing that rests on it may go on."""


def encode_for_signing(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding of a payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign_payload(keyring: Keyring, payload_type: str, payload: bytes) -> Signature:
    """Sign a payload with this machine's key.

    Raises:
        StageError: This machine has no key to sign with.
    """
    signer = keyring.require_signer()
    value = signer.private.sign(encode_for_signing(payload_type, payload), ALGORITHM)
    return Signature(key_id=signer.key_id, value=base64.b64encode(value).decode())


def verify_payload(
    keyring: Keyring, payload_type: str, payload: bytes, signature: Signature | None, name: str
) -> None:
    """Check that a trusted key signed these very bytes.

    Args:
        keyring: The keys that are trusted.
        payload_type: The kind of the payload.
        payload: The bytes.
        signature: What is said to be their signature.
        name: Where they were read, for the message.

    Raises:
        UntrustedError: They are unsigned, signed by another key, or not what was signed.
    """
    if signature is None:
        raise UntrustedError(
            f"{name} is not signed; it is not believed. If it is older than signatures, look at "
            "it and sign it: `millrace verify RECIPE --sign --actor NAME`."
        )
    key = keyring.trusted.get(signature.key_id)
    if key is None:
        raise UntrustedError(describe_unknown_key(keyring, signature.key_id, name))
    verify_with_key(key, payload_type, payload, signature, name)


def verify_with_key(
    key: ec.EllipticCurvePublicKey,
    payload_type: str,
    payload: bytes,
    signature: Signature,
    name: str,
) -> None:
    """Check that one key signed these very bytes.

    Raises:
        UntrustedError: It did not.
    """
    try:
        value = base64.b64decode(signature.value, validate=True)
        key.verify(value, encode_for_signing(payload_type, payload), ALGORITHM)
    except (InvalidSignature, binascii.Error, ValueError):
        raise UntrustedError(
            f"{name} is not what the key {signature.key_id} signed: it was changed afterwards, or "
            "the signature belongs to another object; it is not believed."
        ) from None


def describe_unknown_key(keyring: Keyring, key_id: str, name: str) -> str:
    """Return the sentence for a signature by a key that is not trusted."""
    if key_id in keyring.revoked:
        return (
            f"{name} is signed by the key {key_id}, which was revoked; it is not believed. To keep "
            "it, verify it and sign it anew: `millrace verify RECIPE --sign --actor NAME`."
        )
    trusted = ", ".join(sorted(keyring.trusted)) or "none"
    return (
        f"{name} is signed by the key {key_id}, which is not trusted here (trusted: {trusted}); it "
        "is not believed. If the key is right, `millrace keys trust FILE` with its public key."
    )


def sign_contract(keyring: Keyring, contract: SignedT) -> SignedT:
    """Return the contract with a signature over its content."""
    signature = sign_payload(keyring, contract.PAYLOAD_TYPE, contract.to_payload())
    return contract.with_signature(signature)


def verify_contract(keyring: Keyring, contract: SignedContract, name: str) -> None:
    """Check that a trusted key signed the contract.

    Raises:
        UntrustedError: None did.
    """
    verify_payload(keyring, contract.PAYLOAD_TYPE, contract.to_payload(), contract.signature, name)


def needs_signature(keyring: Keyring, contract: SignedContract, name: str) -> bool:
    """Return whether a person may vouch for a contract: it is unsigned, or its key was revoked.

    Raises:
        UntrustedError: It was changed after it was signed, or an unknown key signed it.
    """
    signature = contract.signature
    if signature is None:
        return True
    revoked = keyring.revoked.get(signature.key_id)
    if revoked is None:
        verify_contract(keyring, contract, name)
        return False
    verify_with_key(revoked, contract.PAYLOAD_TYPE, contract.to_payload(), signature, name)
    return True
