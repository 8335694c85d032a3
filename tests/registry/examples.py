"""Small versions, verdicts and promotions for tests of the registry."""

from pathlib import Path
from typing import Any

from tasks.contracts.evidence import Evidence, Override
from tasks.contracts.gate_verdict import GateVerdict, Verdict
from tasks.contracts.manifest import Manifest
from tasks.contracts.model_info import ModelInfo
from tasks.contracts.provenance import Provenance
from tasks.registry import manifests, moves
from tasks.registry.channel_pointer import CurrentPointer
from tasks.registry.moves import MoveResult, Promotion
from tasks.registry.registry import Registry
from tasks.storage import files

CHANNEL = "production"


def manifest_of(model: str, folder: Path, info: ModelInfo | None = None, **fields: Any) -> Manifest:
    """The manifest of the files in a folder, made from no data."""
    content: dict[str, Any] = {"recipe_sha256": "", "data": {}, "metrics": {}, "runtime": {}}
    model_files = manifests.list_model_files(folder, info)
    return Manifest(model=model, files=model_files, **(content | fields))


def provenance(manifest: Manifest, **fields: Any) -> Provenance:
    content: dict[str, Any] = {
        "model": manifest.model,
        "version": manifest.version,
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


def publish(registry: Registry, model: str, folder: Path, content: str) -> str:
    """Publish a version of one file."""
    files.write_text(folder / "model.txt", content)
    manifest = manifest_of(model, folder)
    return manifests.publish_version(registry, folder, manifest, provenance(manifest))


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
    model: str,
    version: str,
    outcome: Verdict = "promote",
    champion: str | None = None,
    override: Override | None = None,
) -> Evidence:
    return Evidence(
        model=model,
        channel=CHANNEL,
        version=version,
        champion=champion,
        gate=verdict(outcome),
        override=override,
    )


def promote(
    registry: Registry, model: str, version: str, expected: CurrentPointer | None
) -> MoveResult:
    """Promote a version against the pointer that is expected."""
    champion = expected.version if expected else None
    proof = evidence(model, version, champion=champion)
    return moves.promote(registry, promotion(proof, expected))


def promotion(
    proof: Evidence, expected: CurrentPointer | None = None, actor: str = "test"
) -> Promotion:
    return Promotion(proof, expected, actor, f"promotes {proof.version}")


def put(registry: Registry, key: str, data: bytes) -> None:
    """Write an object as somebody does who has stolen the bucket's credentials."""
    registry.store.put(key, data)
