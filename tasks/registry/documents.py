"""The documents beside a version: its model card and its bill of materials, signed.

They are no part of the version, as another run may make the same version, and describes that run.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from tasks.contracts.manifest import Manifest
from tasks.contracts.statements import DocumentedVersion, DocumentsStatement, Subject
from tasks.registry import bundles, object_keys
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError


def publish_documents(registry: Registry, manifest: Manifest, paths: Sequence[Path]) -> None:
    """Upload documents, and then a signature over all of them."""
    contents = {path.name: path.read_bytes() for path in paths}
    for name, content in contents.items():
        registry.store.put(object_keys.version_key(manifest.model, manifest.version, name), content)
    statement = DocumentsStatement(
        subject=[
            Subject(name=name, digest={"sha256": hashlib.sha256(content).hexdigest()})
            for name, content in sorted(contents.items())
        ],
        predicate=DocumentedVersion(model=manifest.model, version=manifest.version),
    )
    bundle = bundles.sign_statement(
        registry.keyring, statement.model_dump_json(by_alias=True).encode()
    )
    key = object_keys.documents_signature_key(manifest.model, manifest.version)
    registry.store.put(key, bundle)


def verify_documents(registry: Registry, manifest: Manifest) -> None:
    """Check the documents beside a version, if there are any.

    Raises:
        UntrustedError: They are not signed by a trusted key, or not as they were signed.
    """
    prefix = object_keys.version_key(manifest.model, manifest.version, "")
    names = {key.removeprefix(prefix) for key in registry.store.list_names(prefix)}
    if names - object_keys.VERSION_NAMES:
        read_documents(registry, manifest)


def read_documents(registry: Registry, manifest: Manifest) -> dict[str, bytes]:
    """Read the documents of a version, by their names.

    Raises:
        UntrustedError: They are not signed by a trusted key, or not as they were signed.
    """
    key = object_keys.documents_signature_key(manifest.model, manifest.version)
    name = f"{registry.address}: {key}"
    stored = registry.store.get(key)
    if stored is None:
        raise UntrustedError(f"The card in {registry.address} is not signed (there is no {key}).")
    content = bundles.verify_bundle(registry.keyring, stored[0], name)
    try:
        statement = DocumentsStatement.model_validate_json(content)
    except ValidationError:
        raise UntrustedError(f"{name} signs something else than documents.") from None
    described = (statement.predicate.model, statement.predicate.version)
    if described != (manifest.model, manifest.version):
        raise UntrustedError(f"{name} signs the documents of {' '.join(described)}.")
    return {
        subject.name: read_document(registry, manifest, subject) for subject in statement.subject
    }


def read_document(registry: Registry, manifest: Manifest, subject: Subject) -> bytes:
    """Read a document, and check its bytes against what was signed."""
    key = object_keys.version_key(manifest.model, manifest.version, subject.name)
    stored = registry.store.get(key)
    content = stored[0] if stored else b""
    if hashlib.sha256(content).hexdigest() != subject.digest.get("sha256"):
        raise UntrustedError(f"{registry.address}: {key} is missing, or is not what was signed.")
    return content
