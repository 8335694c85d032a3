"""The pointer of a channel: which version of a model is in production, since when and why."""

from typing import ClassVar, Literal

from pydantic import Field

from tasks.contracts.evidence import Override
from tasks.contracts.signed import SignedContract

Action = Literal["promote", "rollback", "freeze", "unfreeze"]


class ChannelPointer(SignedContract):
    """One move of a channel. The channel holds the latest; the journal holds all.

    Attributes:
        generation: The number of the move in its channel, from 1.
        promotion_id: A random id, so that no two pointers have the same bytes.
        action: What moved it. Only `promote` rests on a verdict of the gate.
        model: The recipe's name.
        channel: The channel's name, such as `production`.
        version: The version that the channel names from now on.
        previous: The version to fall back to: the one that the channel named before this version;
            None for the first.
        evidence: The key of the evidence in the store; None if no verdict was needed.
        actor: Who moved it: the flow, or a person.
        reason: Why.
        time: When, in ISO 8601 and UTC.
        frozen: Whether only a person may move the channel from now on.
        override: Who overrode the gate, and why; None if the gate allowed the promotion.
    """

    PAYLOAD_TYPE: ClassVar[str] = "application/vnd.millrace.pointer+json"

    generation: int = Field(ge=1)
    promotion_id: str
    action: Action = "promote"
    model: str
    channel: str
    version: str
    previous: str | None
    evidence: str | None
    actor: str
    reason: str
    time: str
    frozen: bool = False
    override: Override | None = None

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a pointer cannot be read."""
        return "`millrace doctor --repair RECIPE` restores it from the journal"
