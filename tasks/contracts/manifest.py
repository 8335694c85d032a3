"""The manifest of a model version: what is served, and the data that it was made from."""

import hashlib

from pydantic import SerializerFunctionWrapHandler, model_serializer

from tasks.contracts.base import Contract, JsonObject, Record
from tasks.contracts.evaluation import Interval

VERSION_DIGITS = 16
GOLDEN = "golden.parquet"  # the file with requests whose answers are known


class ModelFile(Record):
    """A file of a model.

    Attributes:
        sha256: The hash of its bytes.
        size: How many bytes it has.
        serving: Whether answering requests needs it. It is written only if it is false, so the
            manifests from before it was known keep their bytes, and all their files are fetched.
    """

    sha256: str
    size: int
    serving: bool = True

    @model_serializer(mode="wrap")
    def leave_out_default(self, serialize: SerializerFunctionWrapHandler) -> JsonObject:
        """Return the content, without `serving` if it is true."""
        content: JsonObject = serialize(self)
        if self.serving:
            del content["serving"]
        return content


class Manifest(Contract):
    """What a version is. It holds content only, so equal models have equal versions.

    Who made the version, when, where and with which code is its provenance, and no part of it.

    Attributes:
        model: The recipe's name.
        files: The model's files, and the golden requests, by their path in the version's folder.
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

    @property
    def model_hashes(self) -> dict[str, str]:
        """The sha256 of each of the model's own files, which evaluation and gate judged."""
        return {name: digest for name, digest in self.file_hashes.items() if name != GOLDEN}

    @property
    def serving_files(self) -> dict[str, ModelFile]:
        """The files that answering requests needs."""
        return {name: file for name, file in self.files.items() if file.serving}


def derive_version(data: bytes) -> str:
    """Return the version that the bytes of a manifest stand for."""
    return hashlib.sha256(data).hexdigest()[:VERSION_DIGITS]
