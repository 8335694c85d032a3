"""Small versions, verdicts and promotions for tests of the registry."""

from pathlib import Path
from typing import Any

from tasks.contracts.evidence import Evidence, Override
from tasks.contracts.gate_verdict import GateVerdict, Verdict
from tasks.contracts.manifest import Manifest
from tasks.contracts.provenance import Provenance
from tasks.registry import channel_pointer, manifests
from tasks.registry.channel_pointer import CurrentPointer, Promotion, PromotionResult
from tasks.storage import files
from tasks.storage.object_store import ObjectStore

CHANNEL = "production"


def manifest_of(model: str, folder: Path, **fields: Any) -> Manifest:
    """The manifest of the files in a folder, made from no data."""
    content: dict[str, Any] = {"recipe_sha256": "", "data": {}, "metrics": {}, "runtime": {}}
    model_files = manifests.list_model_files(folder)
    return Manifest(model=model, files=model_files, **(content | fields))


def provenance(**fields: Any) -> Provenance:
    content: dict[str, Any] = {
        "run": "run 1",
        "created": "2026-01-01T00:00:00+00:00",
        "host": "here",
        "platform": "Linux",
        "python": "3.11.9",
        "commit": None,
        "constraints_sha256": "",
        "stages": {},
    }
    return Provenance(**(content | fields))


def publish(store: ObjectStore, model: str, folder: Path, content: str) -> str:
    """Publish a version of one file."""
    files.write_text(folder / "model.bin", content)
    return manifests.publish_version(store, folder, manifest_of(model, folder), provenance())


def verdict(outcome: Verdict = "promote") -> GateVerdict:
    """The gate's verdict on a model without rules."""
    return GateVerdict(
        verdict=outcome,
        reason="Every rule is met." if outcome == "promote" else "A rule is not met.",
        checks=[],
        rows=100,
        champion=None,
        comparison_number=None,
        excluded_rows=None,
        disagreements=None,
        model_sha256={},
        test_sha256="",
    )


def evidence(
    outcome: Verdict = "promote", champion: str | None = None, override: Override | None = None
) -> Evidence:
    return Evidence(champion=champion, gate=verdict(outcome), override=override)


def promote(
    store: ObjectStore, model: str, version: str, expected: CurrentPointer | None
) -> PromotionResult:
    """Promote a version against the pointer that is expected."""
    champion = expected.version if expected else None
    return channel_pointer.promote(
        store, promotion(model, version, evidence(champion=champion), expected)
    )


def promotion(
    model: str,
    version: str,
    proof: Evidence,
    expected: CurrentPointer | None = None,
    actor: str = "test",
) -> Promotion:
    return Promotion(model, CHANNEL, version, proof, expected, actor, f"promotes {version}")
