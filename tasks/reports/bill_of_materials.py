"""The bill of materials: what a version was made from and with, as a CycloneDX 1.6 ML-BOM, from its manifest and the recipe's outputs.

The library cyclonedx-python-lib has no model cards yet, so that the document is written as its schema says. It holds no time and no random number:
the same version always has the same bill.
"""

import importlib.metadata
import uuid
from pathlib import Path
from typing import Any

from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from tasks.contracts.evaluation import Evaluation
from tasks.contracts.manifest import Manifest
from tasks.contracts.snapshot import Snapshot
from tasks.recipe.recipe import Recipe
from tasks.reports import model_card
from tasks.storage import files, hashing

MODEL_LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "safetensors",
    "scikit-learn",
    "tokenizers",
    "torch",
    "transformers",
    *hashing.FINGERPRINTED_LIBRARIES,
)


def build_bill_of_materials(recipe: Recipe, folder: Path, manifest: Manifest) -> dict[str, Any]:
    version = manifest.version
    metrics = Evaluation.read(folder / "evaluation" / "metrics.json").numbers()
    parts = [
        *list_data_components(recipe, folder),
        *list_base_models(recipe),
        *list_libraries(manifest.runtime),
    ]
    model = {
        **build_component("machine-learning-model", "model", recipe.name, version),
        "description": model_card.describe_purpose(recipe),
        **(
            {
                "licenses": [
                    {
                        "license": {
                            "id" if is_supported_id(recipe.license) else "name": recipe.license
                        }
                    }
                ]
            }
            if recipe.license
            else {}
        ),
        "components": [
            build_component("file", f"model/{name}", name, "", file.sha256)
            for name, file in sorted(manifest.files.items())
        ],
        "modelCard": {
            "modelParameters": {
                "approach": {
                    "type": "self-supervised" if recipe.problem == "language" else "supervised"
                },
                "task": model_card.build_hub_metadata(recipe, metrics)["pipeline_tag"],
                "modelArchitecture": recipe.modality,
                "datasets": [{"ref": part["bom-ref"]} for part in parts if part["type"] == "data"],
            },
            "quantitativeAnalysis": {"performanceMetrics": list_metrics(metrics)},
            "considerations": {
                "useCases": [model_card.describe_purpose(recipe)],
                "technicalLimitations": model_card.describe_limits(folder, metrics),
            },
        },
        "properties": [
            {"name": "millrace:parameters", "value": str(metrics["cost"]["parameters"])}
        ],
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'millrace:{recipe.name}:{version}')}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "millrace"}]},
            "component": model,
        },
        "components": parts,
        "dependencies": [{"ref": "model", "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def build_component(
    kind: str, ref: str, name: str, version: str = "", sha256: str | None = None
) -> dict[str, Any]:
    more = {"version": version, "hashes": [{"alg": "SHA-256", "content": sha256}] if sha256 else []}
    return {
        "type": kind,
        "bom-ref": ref,
        "name": name,
        **{key: value for key, value in more.items() if value},
    }


def list_data_components(recipe: Recipe, folder: Path) -> list[dict[str, Any]]:
    """The snapshot of the source, by the hash of its parts' hashes, and the sides of the split."""
    snapshot = Snapshot.read(folder / "raw" / "snapshot.json")
    rows = files.read_json(folder / "split" / "report.json")["rows_by_split"]
    source = [
        {"name": f"millrace:source:{key}", "value": str(value)}
        for key, value in sorted(snapshot.source.items())
        if value is not None
    ]
    raw = build_component(
        "data",
        "data/raw",
        f"{recipe.name}, {snapshot.rows} rows as they came",
        hashing.hash_json([partition.sha256 for partition in snapshot.partitions]),
    )
    side = {name: hashing.sha256(folder / "split" / f"{name}.parquet") for name in rows}
    return [
        {**raw, "properties": source},
        *(
            build_component(
                "data",
                f"data/{name}",
                f"{recipe.name}, {rows[name]} rows of {name}",
                "",
                side[name],
            )
            for name in rows
        ),
    ]


def list_base_models(recipe: Recipe) -> list[dict[str, Any]]:
    """The base models of training and of pre-training, with the hash that the recipe names or that the weights in the folder have."""
    found = []
    for key, section in (("train", recipe.train), ("pretrain", recipe.pretrain)):
        if section and section.base:
            weights = Path(section.base) / "model.safetensors"
            sha256 = section.sha256 or (hashing.sha256(weights) if weights.is_file() else None)
            found.append(
                build_component("machine-learning-model", f"base/{key}", section.base, "", sha256)
            )
    return found


def list_libraries(runtime: dict[str, str]) -> list[dict[str, Any]]:
    """What made the model and its data, as it is installed here."""
    found = [
        build_component("platform", f"runtime/{name}", name, version)
        for name, version in sorted(runtime.items())
    ]
    for name in sorted(MODEL_LIBRARIES):
        version = importlib.metadata.version(name)
        purl = PackageURL("pypi", name=name, version=version).to_string()
        found.append({**build_component("library", purl, name, version), "purl": purl})
    return found


def list_metrics(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Every metric with its interval, of all test rows and of each class."""

    def one(kind: str, found: dict[str, float], **where: str) -> dict[str, Any]:
        bounds = {"lowerBound": str(found["low"]), "upperBound": str(found["high"])}
        return {"type": kind, **where, "value": str(found["value"]), "confidenceInterval": bounds}

    whole = [one(name, found) for name, found in model_card.select_intervals(metrics).items()]
    return whole + [
        one("f1", found["f1"], slice=name) for name, found in metrics["classes"].items()
    ]
