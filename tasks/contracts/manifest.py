"""The manifest of a model version: what is served, and the data that it was made from."""

import hashlib

from tasks.contracts.base import Contract, Record
from tasks.contracts.evaluation import Interval

VERSION_DIGITS = 16


class ModelFile(Record):
    """A file of a model."""

    sha256: str
    size: int  # bytes


class Manifest(Contract):
    """What a version is. It holds content only, so equal models have equal versions.

    Who made the version, when, where and with which code is its provenance, and no part of it.

    Attributes:
        model: The recipe's name.
        files: The model's files by their path in its folder.
        recipe_sha256: The hash of the resolved recipe, without the fingerprints of its sources.
        data: The hashes of the rows that the model was made from and tested on.
        metrics: The metrics of the exported model on the test split.
        runtime: The versions that the exported model needs.
    """

    model: str
    files: dict[str, ModelFile]
    recipe_sha256: str
    data: dict[str, str]
    metrics: dict[str, Interval]
    runtime: dict[str, str]

    @classmethod
    def advice(cls) -> str:
        """Say what to do if a manifest cannot be read."""
        return "a run of its recipe with this Millrace publishes a new one"

    @property
    def version(self) -> str:
        """The version's name: the first hex digits of the manifest's sha256."""
        return derive_version(self.to_bytes())

    @property
    def file_hashes(self) -> dict[str, str]:
        """The sha256 of each file."""
        return {name: file.sha256 for name, file in self.files.items()}


def derive_version(data: bytes) -> str:
    """Return the version that the bytes of a manifest stand for."""
    return hashlib.sha256(data).hexdigest()[:VERSION_DIGITS]
