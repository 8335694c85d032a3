"""Verifying all that the registry holds for a model, and signing anew what a person vouches for."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tasks.contracts.audit import SigningRecord
from tasks.contracts.manifest import Manifest
from tasks.contracts.signed import SignedContract
from tasks.core import timestamps
from tasks.core.errors import RetryableError, StageError
from tasks.registry import (
    channel_pointer,
    documents,
    gate_evidence,
    journal,
    manifests,
    model_signature,
    object_keys,
    signing,
)
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import object_store, transfer


@dataclass(frozen=True)
class Check:
    """What the check of one thing came to.

    Attributes:
        name: What was checked, such as `version 0123`.
        fault: Why it is not believed; empty if it is.
    """

    name: str
    fault: str


def verify_model(registry: Registry, model: str, versions: Sequence[str] = ()) -> Iterator[Check]:
    """Check every object of a model: signatures, names and hashes of all bytes.

    Args:
        registry: The registry.
        model: The recipe's name.
        versions: The versions to check; all of them, and all channels, if none is named.
    """
    for version in versions or manifests.list_versions(registry, model):
        yield run_check(f"version {version}", partial(verify_version, registry, model, version))
    if versions:
        return
    for channel in list_channels(registry, model):
        yield from verify_channel(registry, model, channel)
    for key in registry.store.list_names(object_keys.evidence_prefix(model)):
        yield run_check(f"evidence {key}", partial(gate_evidence.verify_object, registry, key))


def verify_channel(registry: Registry, model: str, channel: str) -> Iterator[Check]:
    """Check the pointer and the journal of a channel against each other."""
    history = journal.read_history(registry, model, channel)
    for fault in history.faults:
        yield Check(f"channel {channel}", fault)
    if not history.faults:
        yield Check(f"channel {channel} (generation {len(history.records)})", "")


def run_check(name: str, check: Callable[[], None]) -> Check:
    """Run a check, and return what it came to.

    Raises:
        RetryableError: The store does not answer.
    """
    try:
        check()
    except RetryableError:
        raise
    except StageError as error:
        return Check(name, str(error))
    return Check(name, "")


def verify_version(registry: Registry, model: str, version: str) -> None:
    """Check a version's manifest, signatures and provenance, and the bytes of each file.

    Raises:
        StageError: Something is missing, damaged or not signed by a trusted key.
    """
    manifest = manifests.read_manifest(registry, model, version)
    verify_blobs(registry, manifest)
    manifests.read_provenance(registry, model, version)
    documents.verify_documents(registry, manifest)


def verify_blobs(registry: Registry, manifest: Manifest) -> None:
    """Check the bytes of each file of a version.

    Raises:
        StageError: The store gives back other bytes, or none.
    """
    for name, file in manifest.files.items():
        digest = transfer.hash_object(registry.store, object_keys.blob_key(file.sha256))
        if digest != file.sha256:
            fault = "is missing" if digest is None else "was damaged or tampered with"
            raise StageError(
                f"{registry.address}: {name} of {manifest.model} {manifest.version} {fault}."
            )


def list_channels(registry: Registry, model: str) -> list[str]:
    """Return the channels that have a pointer or a journal, sorted."""
    prefix = object_keys.channels_prefix(model)
    pointers = registry.store.list_names(prefix)
    channels = {key.removeprefix(prefix).removesuffix(".json") for key in pointers}
    prefix = object_keys.journals_prefix(model)
    channels |= {
        key.removeprefix(prefix).partition("/")[0] for key in registry.store.list_names(prefix)
    }
    return sorted(channels)


def sign_again(
    registry: Registry, model: str, actor: str, versions: Sequence[str] = ()
) -> list[str]:
    """Sign what a person vouches for: unsigned objects, and those of a revoked key.

    What a version consists of is verified by its hashes before it is signed. Who signed what is
    recorded in the store.

    Args:
        registry: The registry.
        model: The recipe's name.
        actor: Who vouches for it.
        versions: The versions to sign; all channels and what they named, if none is named.

    Returns:
        The keys of the objects that were signed.

    Raises:
        StageError: A version's bytes are not those of its manifest, or an object is none that
            could be signed.
    """
    signed = []
    if not versions:
        for channel in list_channels(registry, model):
            signed += sign_channel_again(registry, model, channel)
    for version in versions or list_promoted_versions(registry, model):
        signed += sign_version_again(registry, model, version)
    if signed:
        record_signing(registry, model, actor, signed)
    return signed


def list_promoted_versions(registry: Registry, model: str) -> list[str]:
    """Return the versions that a channel names or named, sorted."""
    versions = set()
    for channel in list_channels(registry, model):
        records = journal.read_history(registry, model, channel).records
        versions |= {record.version for record in records}
    return sorted(versions)


def sign_version_again(registry: Registry, model: str, version: str) -> list[str]:
    """Sign a version and its provenance if they are not; return the keys that were written."""
    manifest = manifests.read_unsigned_manifest(registry, model, version)
    verify_signature = partial(model_signature.verify_version_signature, registry, manifest)
    signed = []
    if run_check(version, verify_signature).fault:
        verify_blobs(registry, manifest)
        model_signature.sign_version(registry, manifest)
        signed.append(object_keys.signature_key(model, version))
    provenance = manifests.read_unsigned_provenance(registry, model, version)
    if provenance:
        key = object_keys.provenance_key(model, version)
        signed += sign_contract_again(registry, key, provenance)
    return signed


def sign_channel_again(registry: Registry, model: str, channel: str) -> list[str]:
    """Sign a channel's pointer, journal and evidence if they are not; return the keys written.

    Raises:
        UntrustedError: An object is not signed though others of the channel are: it was not
            written before there were signatures, so it was not written by us.
    """
    contracts = read_unsigned_channel(registry, model, channel)
    if any(contract.signature for contract in contracts.values()):
        for key, contract in contracts.items():
            require_signature(registry, key, contract)
    signed: list[str] = []
    for key, contract in contracts.items():
        signed += sign_contract_again(registry, key, contract)
    return signed


def read_unsigned_channel(
    registry: Registry, model: str, channel: str
) -> dict[str, SignedContract]:
    """Read a channel's pointer, journal and evidence by key, and check all but the signatures."""
    store = registry.store
    records = list(store.list_names(object_keys.journal_prefix(model, channel)))
    records += store.list_names(object_keys.channel_key(model, channel))
    contracts: dict[str, SignedContract] = {}
    for key in records:
        stored = store.get(key)
        data = stored[0] if stored else b""
        contracts[key] = channel_pointer.parse_unsigned_record(registry, data, key, model, channel)
    for key in store.list_names(object_keys.evidence_prefix(model, channel)):
        contracts[key] = gate_evidence.parse_unsigned_object(registry, key)
    return contracts


def require_signature(registry: Registry, key: str, contract: SignedContract) -> None:
    """Raise UntrustedError if an object is not signed."""
    if contract.signature is None:
        raise UntrustedError(
            f"{registry.address}: {key} is not signed, though other objects of its channel are: "
            "somebody else wrote it. It is not signed now either: look at it and delete it, or let "
            "`millrace doctor --repair RECIPE` restore what can be proven."
        )


def sign_contract_again(registry: Registry, key: str, contract: SignedContract) -> list[str]:
    """Sign an object if no trusted key has signed it; return its key if it was written.

    Raises:
        UntrustedError: It was changed after it was signed, or an unknown key signed it.
        RetryableError: It has changed since it was read.
    """
    name = f"{registry.address}: {key}"
    if not signing.needs_signature(registry.keyring, contract, name):
        return []
    stored = registry.store.get(key)
    if stored is None or type(contract).parse_bytes(stored[0], name) != contract:
        raise RetryableError(f"{name} has changed meanwhile: look at it, and sign again.")
    signed = signing.sign_contract(registry.keyring, contract)
    if not registry.store.put_if_match(key, signed.to_bytes(), stored[1]):
        raise RetryableError(f"{name} has changed meanwhile: look at it, and sign again.")
    return [key]


def record_signing(registry: Registry, model: str, actor: str, keys: list[str]) -> None:
    """Record who vouched for which objects."""
    record = SigningRecord(
        model=model,
        actor=actor,
        time=timestamps.format_utc_now(),
        key_id=registry.keyring.require_signer().key_id,
        objects=sorted(keys),
    )
    data = signing.sign_contract(registry.keyring, record).to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    object_store.create_once(registry.store, object_keys.signing_record_key(model, digest), data)
