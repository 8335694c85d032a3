"""What the signed objects of the registry have in common: their signature, and what it covers."""

from typing import ClassVar, Self

from tasks.contracts.base import Contract, Record
from tasks.storage import files


class Signature(Record):
    """A signature by ECDSA on P-256 with SHA-256.

    Attributes:
        key_id: The id of the public key that verifies it.
        value: The signature in DER, as base64.
    """

    key_id: str
    value: str


class SignedContract(Contract):
    """An object of the bucket that is believed only if a trusted key has signed it.

    The signature covers every other field, and the kind of the object, so that it cannot be moved
    to an object of another kind. The fields name the object's model and place, so that it cannot
    be moved to another key either.
    """

    PAYLOAD_TYPE: ClassVar[str]

    signature: Signature | None = None

    def to_payload(self) -> bytes:
        """The bytes that are signed: the content without its signature."""
        content = self.to_json()
        del content["signature"]
        return files.encode_json(content)

    def with_signature(self, signature: Signature) -> Self:
        """Return the same content with a signature."""
        return self.model_copy(update={"signature": signature})
