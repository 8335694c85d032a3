"""The provenance of a model version: who made it, when, where and with which code."""

from typing import ClassVar

from tasks.contracts.base import Record
from tasks.contracts.signed import SignedContract


class StageProvenance(Record):
    """What DVC recorded of a stage: the md5 of each dependency and output, by path."""

    deps: dict[str, str | None]  # None if the file lies in git, not in DVC's cache
    outs: dict[str, str | None]


class Provenance(SignedContract):
    """How a version was made the first time. A later run that makes the same one adds nothing.

    Attributes:
        model: The recipe's name.
        version: The version.
        run: The id of the flow run.
        created: The time at which the version was built, in ISO 8601 and UTC.
        host: The machine's name.
        platform: Its operating system and processor.
        python: The version of Python.
        commit: The commit that was checked out; None outside of git.
        constraints_sha256: The hash of constraints.txt, which pins all libraries.
        stages: Each stage's inputs, code and outputs, by address such as `clean@digits`.
    """

    PAYLOAD_TYPE: ClassVar[str] = "application/vnd.millrace.provenance+json"

    model: str
    version: str
    run: str
    created: str
    host: str
    platform: str
    python: str
    commit: str | None
    constraints_sha256: str
    stages: dict[str, StageProvenance]

    @classmethod
    def advice(cls) -> str:
        """Say what to do if the file cannot be read."""
        return "read it by hand; the version itself does not depend on it"
