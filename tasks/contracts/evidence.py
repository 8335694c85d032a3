"""The evidence for a promotion: what the gate decided, and who overrode it."""

from typing import ClassVar

from tasks.contracts.base import Record
from tasks.contracts.gate_verdict import GateVerdict, Verdict
from tasks.contracts.signed import SignedContract

PROMOTE = "promote"


class Override(Record):
    """A person promotes a version whatever the gate decided."""

    actor: str
    reason: str


class Evidence(SignedContract):
    """What the gate decided on a version against one champion of a channel.

    Attributes:
        model: The recipe's name.
        channel: The channel that the version is for.
        version: The version that was judged.
        champion: The champion's version; None if nothing is in production.
        gate: The gate's verdict.
        override: Who promotes the version all the same; None if the verdict decides.
    """

    PAYLOAD_TYPE: ClassVar[str] = "application/vnd.millrace.evidence+json"

    model: str
    channel: str
    version: str
    champion: str | None
    gate: GateVerdict
    override: Override | None = None

    @classmethod
    def advice(cls) -> str:
        """Say what to do if evidence cannot be read."""
        return "change the recipe, so that a run makes and judges a new version"

    @property
    def verdict(self) -> Verdict:
        """What the gate decided."""
        return self.gate.verdict

    @property
    def reason(self) -> str:
        """Why the gate decided so."""
        return self.gate.reason

    @property
    def allows_promotion(self) -> bool:
        """Whether the gate allows the promotion, or a person has overridden it."""
        return self.verdict == PROMOTE or self.override is not None


class ComparisonClaim(SignedContract):
    """A version's claim to a number among the comparisons with one champion.

    Attributes:
        model: The recipe's name.
        champion: The champion's version.
        number: The number, from 1.
        version: The version that was compared.
    """

    PAYLOAD_TYPE: ClassVar[str] = "application/vnd.millrace.comparison+json"

    model: str
    champion: str
    number: int
    version: str

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a claim cannot be read."""
        return "look at who wrote it; a claim that is deleted makes the comparison too lenient"
