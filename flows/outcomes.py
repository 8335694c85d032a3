"""How a run can end. Each outcome has a name, a sentence and an exit status."""

from dataclasses import dataclass
from typing import ClassVar

from flows.candidates import Candidate
from tasks.contracts.evidence import PROMOTE, Evidence
from tasks.core.errors import EXIT_FAILED
from tasks.registry import moves
from tasks.registry.channel_pointer import CurrentPointer


@dataclass(frozen=True)
class Outcome:
    """The end of a run. Its class's name is the name of the flow's state."""

    EXIT_STATUS: ClassVar[int]

    @property
    def name(self) -> str:
        """The name of the flow's state."""
        return type(self).__name__

    @property
    def message(self) -> str:
        """The sentence for people."""
        raise NotImplementedError


@dataclass(frozen=True)
class Promoted(Outcome):
    """The version is in production now."""

    EXIT_STATUS = 0

    candidate: Candidate
    evidence: Evidence

    @property
    def message(self) -> str:
        """The sentence for people."""
        version = f"{self.candidate.recipe} {self.candidate.version}"
        promoted = f"{version} is now in {self.candidate.channel}."
        override = self.evidence.override
        if not override:
            return f"{promoted} {self.evidence.reason}"
        return (
            f"{promoted} {override.actor} overrode the verdict {self.evidence.verdict}: "
            f"{override.reason} {self.evidence.reason}"
        )


@dataclass(frozen=True)
class Unchanged(Outcome):
    """The same version is in production already."""

    EXIT_STATUS = 0

    recipe: str
    pointer: CurrentPointer

    @property
    def message(self) -> str:
        """The sentence for people."""
        return (
            f"{self.recipe} {self.pointer.version} is in production already "
            f"(generation {self.pointer.generation})."
        )


@dataclass(frozen=True)
class Rejected(Outcome):
    """The gate rejected the version, or it cannot be served."""

    EXIT_STATUS = 3

    reason: str

    @property
    def message(self) -> str:
        """The sentence for people."""
        return self.reason


@dataclass(frozen=True)
class Inconclusive(Outcome):
    """The gate could not decide."""

    EXIT_STATUS = 4

    evidence: Evidence

    @property
    def message(self) -> str:
        """The sentence for people."""
        return self.evidence.reason


@dataclass(frozen=True)
class Frozen(Outcome):
    """The gate allows the version, but a person has frozen the channel."""

    EXIT_STATUS = 3

    pointer: CurrentPointer

    @property
    def message(self) -> str:
        """The sentence for people."""
        return moves.describe_freeze(self.pointer.record)


@dataclass(frozen=True)
class Superseded(Outcome):
    """Another run promoted its version each time this one had reached a verdict."""

    EXIT_STATUS = 5

    channel: str
    pointer: CurrentPointer | None

    @property
    def message(self) -> str:
        """The sentence for people."""
        winner = "no version"
        if self.pointer:
            winner = f"{self.pointer.version}, promoted by {self.pointer.record.actor}"
            winner += f" ({self.pointer.record.reason})"
        return f"{self.channel} moved while this run was judged: it names {winner}."


@dataclass(frozen=True)
class Failed(Outcome):
    """A step failed."""

    EXIT_STATUS = EXIT_FAILED

    error: Exception

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self.error)


EXIT_STATUS_BY_NAME = {
    outcome.__name__: outcome.EXIT_STATUS
    for outcome in (Promoted, Unchanged, Rejected, Inconclusive, Frozen, Superseded, Failed)
}


def of_verdict(evidence: Evidence) -> Outcome:
    """Return the outcome of a verdict that allows no promotion."""
    if evidence.verdict == PROMOTE:
        raise ValueError("a verdict that allows the promotion is no outcome of the run")
    return Rejected(evidence.reason) if evidence.verdict == "reject" else Inconclusive(evidence)
