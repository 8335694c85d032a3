"""The evidence for a promotion: what the gate decided, and who overrode it."""

from tasks.contracts.base import Contract, Record
from tasks.contracts.gate_verdict import GateVerdict, Verdict

PROMOTE = "promote"


class Override(Record):
    """A person promotes a version whatever the gate decided."""

    actor: str
    reason: str


class Evidence(Contract):
    """What the gate decided on a version against one champion.

    Attributes:
        champion: The champion's version; None if nothing is in production.
        gate: The gate's verdict.
        override: Who promotes the version all the same; None if the verdict decides.
    """

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
