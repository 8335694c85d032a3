"""The record of a person who vouched for objects that no trusted key had signed."""

from typing import ClassVar

from tasks.contracts.signed import SignedContract


class SigningRecord(SignedContract):
    """Who signed what by hand.

    Attributes:
        model: The recipe's name.
        actor: Who vouches for the objects.
        time: When, in ISO 8601 and UTC.
        key_id: The key that signed them.
        objects: Their keys.
    """

    PAYLOAD_TYPE: ClassVar[str] = "application/vnd.millrace.signing+json"

    model: str
    actor: str
    time: str
    key_id: str
    objects: list[str]

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a record cannot be read."""
        return "look at it by hand; nothing depends on it"
