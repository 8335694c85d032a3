"""A Sigstore bundle with a DSSE envelope, signed by a key: the format of OpenSSF Model Signing.

Its shape is not ours, so fields that we do not know are ignored.
"""

from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


class BundlePart(BaseModel):
    """A part of a bundle, whose names in JSON are in camel case."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class PublicKeyHint(BundlePart):
    """Which public key verifies the bundle: the sha256 of its PEM encoding."""

    hint: str


class VerificationMaterial(BundlePart):
    """What a verifier needs beside the envelope."""

    public_key: PublicKeyHint = Field(alias="publicKey")
    log_entries: list[object] = Field(default=[], alias="tlogEntries")


class EnvelopeSignature(BundlePart):
    """A signature in DER, as base64."""

    sig: str
    keyid: str = ""


class Envelope(BundlePart):
    """A DSSE envelope: a payload as base64, its kind, and one signature over both."""

    payload: str
    payload_type: str = Field(alias="payloadType")
    signatures: list[EnvelopeSignature] = Field(min_length=1, max_length=1)


class SignatureBundle(BundlePart):
    """The whole bundle."""

    media_type: str = Field(alias="mediaType")
    verification_material: VerificationMaterial = Field(alias="verificationMaterial")
    envelope: Envelope = Field(alias="dsseEnvelope")
