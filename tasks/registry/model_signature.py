"""The signature of a version: OpenSSF Model Signing v1.0 over its manifest and every file."""

import hashlib
from pathlib import PurePosixPath

from pydantic import ValidationError

from tasks.contracts.manifest import Manifest
from tasks.contracts.statements import (
    PAYLOAD_TYPE,
    ModelPredicate,
    ModelStatement,
    Resource,
    Serialization,
    Subject,
)
from tasks.registry import bundles, object_keys
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import object_store

# What may lie in a folder beside the files that are signed: the signature itself, documents that
# are made after the version, and what git and the hub's tools keep.
IGNORED_PATHS = (
    ".cache",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "README.md",
    "bom.cdx.json",
    object_keys.SIGNATURE_NAME,
    object_keys.PROVENANCE_NAME,
    object_keys.PROVENANCE_SIGNATURE_NAME,
)


def sign_version(registry: Registry, manifest: Manifest) -> None:
    """Sign a version, unless a trusted key has signed it."""
    key = object_keys.signature_key(manifest.model, manifest.version)
    stored = registry.store.get(key)
    if stored and is_signed(registry, manifest, stored[0]):
        return
    statement = build_statement(manifest).model_dump_json(by_alias=True).encode()
    bundle = bundles.sign_statement(registry.keyring, statement)
    if stored:  # by a key that is not trusted, or damaged: a signature proves itself
        registry.store.put(key, bundle)
        return
    existing = object_store.create_or_get(registry.store, key, bundle)
    verify_signature(registry, manifest, existing)


def build_statement(manifest: Manifest) -> ModelStatement:
    """Return the statement over the manifest and every file, sorted by name."""
    digests = {
        object_keys.MANIFEST_NAME: hashlib.sha256(manifest.to_bytes()).hexdigest(),
        **manifest.file_hashes,
    }
    resources = [
        Resource(name=name, digest=digests[name]) for name in sorted(digests, key=PurePosixPath)
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(item.digest) for item in resources))
    return ModelStatement(
        subject=[Subject(name=manifest.model, digest={"sha256": root.hexdigest()})],
        predicate=ModelPredicate(
            serialization=Serialization(ignore_paths=list(IGNORED_PATHS)), resources=resources
        ),
    )


def verify_version_signature(registry: Registry, manifest: Manifest) -> None:
    """Check that a trusted key signed a version.

    Raises:
        UntrustedError: None did, or the signature is of something else.
    """
    key = object_keys.signature_key(manifest.model, manifest.version)
    stored = registry.store.get(key)
    if stored is None:
        raise UntrustedError(
            f"{registry.address}: {manifest.model} {manifest.version} is not signed (there is no "
            f"{key}); it is not believed. If you know where it comes from: `millrace verify "
            f"{manifest.model} --version {manifest.version} --sign --actor NAME`."
        )
    verify_signature(registry, manifest, stored[0])


def verify_signature(registry: Registry, manifest: Manifest, data: bytes) -> None:
    """Check that a bundle is a trusted signature of this very manifest.

    Raises:
        UntrustedError: It is not.
    """
    key = object_keys.signature_key(manifest.model, manifest.version)
    name = f"{registry.address}: {key}"
    content = bundles.verify_bundle(registry.keyring, data, name)
    try:
        statement = ModelStatement.model_validate_json(content)
    except ValidationError:
        raise UntrustedError(
            f"{name} signs something else than a model ({PAYLOAD_TYPE}); it is not believed."
        ) from None
    if statement != build_statement(manifest):
        raise UntrustedError(
            f"{name} is the signature of other files than those of {manifest.model} "
            f"{manifest.version}: it was copied there; it is not believed."
        )


def is_signed(registry: Registry, manifest: Manifest, data: bytes) -> bool:
    """Return whether a bundle is a trusted signature of this manifest."""
    try:
        verify_signature(registry, manifest, data)
    except UntrustedError:
        return False
    return True
