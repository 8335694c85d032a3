"""The pointer of a channel: which version of a model is in production, since when and why."""

from tasks.contracts.base import Contract
from tasks.contracts.evidence import Override


class ChannelPointer(Contract):
    """One promotion. The channel holds the latest; the journal holds all.

    Attributes:
        generation: The number of the promotion in its channel, from 1.
        promotion_id: A random id, so that no two pointers have the same bytes.
        model: The recipe's name.
        channel: The channel's name, such as `production`.
        version: The version that the channel names from now on.
        previous: The version that it named before; None for the first promotion.
        evidence: The key of the evidence in the store.
        actor: Who promoted it: the flow, or a person.
        reason: Why.
        time: When, in ISO 8601 and UTC.
        override: Who overrode the gate, and why; None if the gate allowed the promotion.
    """

    generation: int
    promotion_id: str
    model: str
    channel: str
    version: str
    previous: str | None
    evidence: str
    actor: str
    reason: str
    time: str
    override: Override | None = None

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a pointer cannot be read."""
        return "restore it from the last record of the journal"
