"""Evidence in the store: verdicts that were reached once, and the numbers of comparisons."""

import hashlib
import itertools

from tasks.contracts.evidence import ComparisonClaim, Evidence
from tasks.core.errors import StageError
from tasks.registry import object_keys, signing
from tasks.registry.registry import Registry
from tasks.registry.signing import UntrustedError
from tasks.storage import object_store

SUFFIX_DIGITS = 16


def read_evidence(
    registry: Registry, model: str, channel: str, version: str, champion: str | None
) -> Evidence | None:
    """Read the gate's verdict on a version against a champion; None if there is none yet.

    Raises:
        StageError: The object is not evidence.
        UntrustedError: It is about another pair, or not signed by a trusted key.
    """
    key = object_keys.evidence_key(model, channel, version, champion)
    stored = registry.store.get(key)
    if stored is None:
        return None
    return parse_evidence(registry, stored[0], key, (model, channel, version, champion))


def parse_evidence(
    registry: Registry, data: bytes, key: str, pair: tuple[str, str, str, str | None]
) -> Evidence:
    """Check the bytes of evidence for (model, channel, version, champion); return what they say."""
    name = f"{registry.address}: {key}"
    evidence = Evidence.parse_bytes(data, name)
    if (evidence.model, evidence.channel, evidence.version, evidence.champion) != pair:
        raise UntrustedError(
            f"{name} is evidence for {evidence.model} {evidence.version} against "
            f"{evidence.champion} in {evidence.channel}: it was copied there; it is not believed."
        )
    signing.verify_contract(registry.keyring, evidence, name)
    return evidence


def verify_object(registry: Registry, key: str) -> None:
    """Check evidence of which only the key is known.

    Raises:
        StageError: The object is not evidence, or lies under another key than its content says.
        UntrustedError: It is not signed by a trusted key.
    """
    evidence = parse_unsigned_object(registry, key)
    signing.verify_contract(registry.keyring, evidence, f"{registry.address}: {key}")


def parse_unsigned_object(registry: Registry, key: str) -> Evidence:
    """Read evidence of which only the key is known, and check it but for its signature."""
    name = f"{registry.address}: {key}"
    stored = registry.store.get(key)
    evidence = Evidence.parse_bytes(stored[0] if stored else b"", name)
    if evidence_key(evidence) != key:
        raise UntrustedError(
            f"{name} is evidence for {evidence.model} {evidence.version} against "
            f"{evidence.champion} in {evidence.channel}: it was copied there; it is not believed."
        )
    return evidence


def write_evidence(registry: Registry, evidence: Evidence) -> str:
    """Write evidence, unless evidence that says the same is there; return its key.

    Raises:
        UntrustedError: What is there is not signed by a trusted key.
        StageError: It says something else.
    """
    key = evidence_key(evidence)
    signed = signing.sign_contract(registry.keyring, evidence)
    existing = object_store.create_or_get(registry.store, key, signed.to_bytes())
    pair = (evidence.model, evidence.channel, evidence.version, evidence.champion)
    recorded = parse_evidence(registry, existing, key, pair)
    if recorded.to_payload() != evidence.to_payload():
        raise StageError(
            f"{registry.address}: {key} exists with another verdict ({recorded.verdict}); it is "
            "never written over. Compare the two by hand."
        )
    return key


def evidence_key(evidence: Evidence) -> str:
    """Return the key of the evidence. An override lies beside the verdict that it overrides."""
    suffix = ""
    if evidence.override:
        suffix = f"-{hashlib.sha256(evidence.to_payload()).hexdigest()[:SUFFIX_DIGITS]}"
    return object_keys.evidence_key(
        evidence.model, evidence.channel, evidence.version, evidence.champion, suffix
    )


def claim_comparison_number(registry: Registry, model: str, version: str, champion: str) -> int:
    """Return the number of the version's comparison with this champion.

    It is the first number that no other version has claimed, and the same whenever it is asked
    for again.

    Raises:
        StageError: A claim cannot be believed.
    """
    for number in itertools.count(1):
        claim = ComparisonClaim(model=model, champion=champion, number=number, version=version)
        if find_or_claim(registry, claim).version == version:
            return number
    raise AssertionError("itertools.count never ends")


def find_or_claim(registry: Registry, claim: ComparisonClaim) -> ComparisonClaim:
    """Write a claim to a number unless the number is claimed; return the claim that holds."""
    key = object_keys.comparison_key(claim.model, claim.champion, claim.number)
    name = f"{registry.address}: {key}"
    signed = signing.sign_contract(registry.keyring, claim)
    existing = object_store.create_or_get(registry.store, key, signed.to_bytes())
    holder = ComparisonClaim.parse_bytes(existing, name)
    if (holder.model, holder.champion, holder.number) != (
        claim.model,
        claim.champion,
        claim.number,
    ):
        raise UntrustedError(f"{name} is a claim to another number: it was copied there.")
    signing.verify_contract(registry.keyring, holder, name)
    return holder
