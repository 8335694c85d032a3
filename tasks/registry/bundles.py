"""Sigstore bundles: an in-toto statement in a DSSE envelope that one key has signed.

`model_signing verify key` and securesystemslib read them.
"""

import base64
import binascii

from pydantic import ValidationError

from tasks.contracts.signature_bundle import (
    MEDIA_TYPE,
    Envelope,
    EnvelopeSignature,
    PublicKeyHint,
    SignatureBundle,
    VerificationMaterial,
)
from tasks.contracts.signed import Signature
from tasks.contracts.statements import PAYLOAD_TYPE
from tasks.registry import keys, signing
from tasks.registry.keys import Keyring
from tasks.registry.signing import UntrustedError
from tasks.storage import files


def sign_statement(keyring: Keyring, statement: bytes) -> bytes:
    """Return the bundle of a statement, signed by this machine's key."""
    signature = signing.sign_payload(keyring, PAYLOAD_TYPE, statement)
    public = keyring.require_signer().private.public_key()
    hint = keys.hash_public_key(public)
    bundle = SignatureBundle(
        media_type=MEDIA_TYPE,
        verification_material=VerificationMaterial(public_key=PublicKeyHint(hint=hint)),
        envelope=Envelope(
            payload=base64.b64encode(statement).decode(),
            payload_type=PAYLOAD_TYPE,
            signatures=[
                EnvelopeSignature(sig=signature.value, keyid=keys.derive_tuf_key_id(public))
            ],
        ),
    )
    return files.encode_json(bundle.model_dump(mode="json", by_alias=True))


def verify_bundle(keyring: Keyring, data: bytes, name: str) -> bytes:
    """Return the statement in a bundle after checking that a trusted key signed it.

    Args:
        keyring: The keys that are trusted.
        data: The bundle.
        name: Where it was read, for the message.

    Raises:
        UntrustedError: It is no bundle, or not signed by a trusted key.
    """
    try:
        bundle = SignatureBundle.model_validate_json(data)
        statement = base64.b64decode(bundle.envelope.payload, validate=True)
        if (bundle.media_type, bundle.envelope.payload_type) != (MEDIA_TYPE, PAYLOAD_TYPE):
            raise ValueError("a bundle of another kind")
    except (ValidationError, binascii.Error, ValueError):
        raise UntrustedError(
            f"{name} is not a Sigstore bundle with a DSSE envelope: it was damaged; what it signs "
            "is not believed. `millrace verify RECIPE --sign --actor NAME` signs anew what can be "
            "verified otherwise."
        ) from None
    key_id = bundle.verification_material.public_key.hint[: keys.KEY_ID_DIGITS]
    signature = Signature(key_id=key_id, value=bundle.envelope.signatures[0].sig)
    signing.verify_payload(keyring, PAYLOAD_TYPE, statement, signature, name)
    return statement
