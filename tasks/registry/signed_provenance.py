"""The signed provenance of a version: an in-toto statement of SLSA provenance v1.

It says which data, code and libraries made the version, and what the gate decided on it, in the
format that tools for supply chains read (slsa.dev/spec/v1.0/provenance).
"""

import hashlib

from tasks.contracts.base import JsonObject
from tasks.contracts.evidence import Evidence
from tasks.contracts.manifest import Manifest
from tasks.contracts.provenance import Provenance
from tasks.contracts.statements import ProvenanceStatement, Subject
from tasks.registry import bundles, object_keys
from tasks.registry.registry import Registry
from tasks.storage import object_store

BUILD_TYPE = "urn:millrace:retrain:v1"
BUILDER = "urn:millrace:flow"


def sign_provenance(
    registry: Registry, manifest: Manifest, provenance: Provenance, evidence: Evidence
) -> None:
    """Sign how a version was made, unless that was done when it was first published."""
    statement = ProvenanceStatement(
        subject=[
            Subject(
                name=object_keys.MANIFEST_NAME,
                digest={"sha256": hashlib.sha256(manifest.to_bytes()).hexdigest()},
            )
        ],
        predicate=describe_build(manifest, provenance, evidence),
    )
    bundle = bundles.sign_statement(
        registry.keyring, statement.model_dump_json(by_alias=True).encode()
    )
    key = object_keys.provenance_signature_key(manifest.model, manifest.version)
    object_store.create_or_get(registry.store, key, bundle)


def describe_build(manifest: Manifest, provenance: Provenance, evidence: Evidence) -> JsonObject:
    """Return SLSA's predicate: what was asked for, what went in, who built it, what came out."""
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "recipe": manifest.model,
                "recipe_sha256": manifest.recipe_sha256,
            },
            "internalParameters": {"platform": provenance.platform, "python": provenance.python},
            "resolvedDependencies": list_dependencies(manifest, provenance),
        },
        "runDetails": {
            "builder": {"id": BUILDER},
            "metadata": {"invocationId": provenance.run, "startedOn": provenance.created},
            "byproducts": [
                {
                    "name": "gate",
                    "annotations": {
                        "verdict": evidence.verdict,
                        "reason": evidence.reason,
                        "champion": evidence.champion,
                        "override": evidence.override and evidence.override.model_dump(),
                    },
                }
            ],
        },
    }


def list_dependencies(manifest: Manifest, provenance: Provenance) -> list[JsonObject]:
    """Return the data, the lock file, the commit and the code that the version was made from."""
    dependencies: list[JsonObject] = [
        {"name": f"data/{name}", "digest": {"sha256": sha256}}
        for name, sha256 in manifest.data.items()
    ]
    lock = {"sha256": provenance.constraints_sha256}
    dependencies.append({"name": "constraints.txt", "digest": lock})
    if provenance.commit:
        dependencies.append({"name": "commit", "digest": {"gitCommit": provenance.commit}})
    for stage, record in provenance.stages.items():
        dependencies += [
            {"name": f"{stage}:{path}", "digest": {"md5": md5}}
            for path, md5 in record.deps.items()
            if md5
        ]
    return dependencies
