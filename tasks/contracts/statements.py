"""The in-toto statements (github.com/in-toto/attestation) that are signed beside a version."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts.base import JsonObject

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MODEL_PREDICATE: Final = "https://model_signing/signature/v1.0"
DOCUMENTS_PREDICATE: Final = "urn:millrace:documents:v1"
PROVENANCE_PREDICATE: Final = "https://slsa.dev/provenance/v1"


class StatementPart(BaseModel):
    """A part of a statement, whose names in JSON may be in camel case."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Subject(StatementPart):
    """What the statement is about."""

    name: str
    digest: dict[str, str]


class Serialization(StatementPart):
    """How the files of a model were hashed."""

    method: Literal["files"] = "files"
    hash_type: Literal["sha256"] = "sha256"
    allow_symlinks: bool = False
    ignore_paths: list[str]


class Resource(StatementPart):
    """A file of a model, by its path in the folder."""

    name: str
    algorithm: Literal["sha256"] = "sha256"
    digest: str


class ModelPredicate(StatementPart):
    """The files of a model, and how they were hashed."""

    serialization: Serialization
    resources: list[Resource]


class Statement(StatementPart):
    """What all statements have in common."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(STATEMENT_TYPE, alias="_type")
    subject: list[Subject] = Field(min_length=1)


class ModelStatement(Statement):
    """The statement of OpenSSF Model Signing v1.0. It has one subject: the hash of all hashes."""

    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(
        MODEL_PREDICATE, alias="predicateType"
    )
    predicate: ModelPredicate


class ProvenanceStatement(Statement):
    """A statement of SLSA provenance; its predicate is JSON for other tools."""

    predicate_type: Literal["https://slsa.dev/provenance/v1"] = Field(
        PROVENANCE_PREDICATE, alias="predicateType"
    )
    predicate: JsonObject


class DocumentedVersion(StatementPart):
    """Which version documents are about."""

    model: str
    version: str


class DocumentsStatement(Statement):
    """A statement over the documents beside a version, such as its card."""

    predicate_type: Literal["urn:millrace:documents:v1"] = Field(
        DOCUMENTS_PREDICATE, alias="predicateType"
    )
    predicate: DocumentedVersion
