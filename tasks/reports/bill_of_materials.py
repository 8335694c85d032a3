"""The bill of materials: what a version was made from and with, as a CycloneDX 1.6 ML-BOM.

The library cyclonedx-python-lib has no model cards yet, so the document is written as the schema
says. It holds no time and no random number: a version always has the same bill.
"""

import importlib.metadata
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclonedx.spdx import is_supported_id
from packageurl import PackageURL

from tasks.contracts.evaluation import Evaluation, Interval
from tasks.contracts.manifest import Manifest
from tasks.contracts.snapshot import Snapshot
from tasks.contracts.split_report import SplitReport
from tasks.recipe.recipe import Recipe
from tasks.reports import hub_metadata, model_card
from tasks.storage import hashing
from tasks.storage.layout import ModelFolder, StagePaths

Component = dict[str, Any]  # a component of a CycloneDX document

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


def build_bill_of_materials(recipe: Recipe, paths: StagePaths, manifest: Manifest) -> Component:
    """Build the document from a version's manifest and the outputs of its recipe."""
    version = manifest.version
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"millrace:{recipe.name}:{version}")
    materials = [
        *list_data_components(recipe, paths),
        *list_base_models(recipe),
        *list_libraries(manifest.runtime),
    ]
    references = [material["bom-ref"] for material in materials]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "millrace"}]},
            "component": build_model(recipe, paths, manifest, materials),
        },
        "components": materials,
        "dependencies": [{"ref": "model", "dependsOn": references}],
    }


def build_model(
    recipe: Recipe, paths: StagePaths, manifest: Manifest, materials: Sequence[Component]
) -> Component:
    """Describe the model: its purpose, licence, files and model card."""
    evaluation = Evaluation.read(paths.evaluation.metrics)
    parameters = str(evaluation.aspects["cost"]["parameters"])
    model = {
        **build_component("machine-learning-model", "model", recipe.name, manifest.version),
        "description": model_card.describe_purpose(recipe),
        "components": [
            build_component("file", f"model/{name}", name, sha256=file.sha256)
            for name, file in sorted(manifest.files.items())
        ],
        "modelCard": build_model_card(recipe, paths, evaluation, materials),
        "properties": [{"name": "millrace:parameters", "value": parameters}],
    }
    if recipe.license:
        key = "id" if is_supported_id(recipe.license) else "name"
        model["licenses"] = [{"license": {key: recipe.license}}]
    return model


def build_model_card(
    recipe: Recipe, paths: StagePaths, evaluation: Evaluation, materials: Sequence[Component]
) -> Component:
    """Describe how the model was trained, how good it is and what it is for."""
    approach = "self-supervised" if recipe.problem == "language" else "supervised"
    data = [material["bom-ref"] for material in materials if material["type"] == "data"]
    return {
        "modelParameters": {
            "approach": {"type": approach},
            "task": hub_metadata.hub_task(recipe),
            "modelArchitecture": recipe.modality,
            "datasets": [{"ref": reference} for reference in data],
        },
        "quantitativeAnalysis": {"performanceMetrics": list_metrics(evaluation)},
        "considerations": {
            "useCases": [model_card.describe_purpose(recipe)],
            "technicalLimitations": model_card.describe_limits(paths, evaluation),
        },
    }


def build_component(
    kind: str, ref: str, name: str, version: str = "", sha256: str | None = None
) -> Component:
    """Build a component; version and hash are left out if they are unknown."""
    component: Component = {"type": kind, "bom-ref": ref, "name": name}
    if version:
        component["version"] = version
    if sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    return component


def list_data_components(recipe: Recipe, paths: StagePaths) -> list[Component]:
    """List the snapshot of the source, by the hash of its files' hashes, and the three splits."""
    snapshot = Snapshot.read(paths.raw.snapshot)
    raw = build_component(
        "data",
        "data/raw",
        f"{recipe.name}, {snapshot.rows} rows as they came",
        hashing.hash_json([partition.sha256 for partition in snapshot.partitions]),
    )
    raw["properties"] = [
        {"name": f"millrace:source:{key}", "value": str(value)}
        for key, value in sorted(snapshot.source.items())
        if value is not None
    ]
    components = [raw]
    for split, rows in SplitReport.read(paths.split.report).rows_by_split.items():
        name = f"{recipe.name}, {rows} rows of {split}"
        sha256 = hashing.sha256(paths.split.table(split))
        components.append(build_component("data", f"data/{split}", name, sha256=sha256))
    return components


def list_base_models(recipe: Recipe) -> list[Component]:
    """List the base models of training and pre-training, each with its hash if that is known.

    The recipe names the hash, or the weights are in a folder.
    """
    components = []
    for key, section in (("train", recipe.train), ("pretrain", recipe.pretrain)):
        if section and section.base:
            sha256 = section.sha256 or hash_weights(Path(section.base))
            components.append(
                build_component("machine-learning-model", f"base/{key}", section.base, "", sha256)
            )
    return components


def hash_weights(folder: Path) -> str | None:
    """Return the hash of a base model's weights, if it is a folder on this machine."""
    weights = ModelFolder(folder).weights
    return hashing.sha256(weights) if weights.is_file() else None


def list_libraries(runtime: Mapping[str, str]) -> list[Component]:
    """List what made the model and its data, in the versions that are installed."""
    components = [
        build_component("platform", f"runtime/{name}", name, version)
        for name, version in sorted(runtime.items())
    ]
    for name in sorted(MODEL_LIBRARIES):
        version = importlib.metadata.version(name)
        purl = PackageURL("pypi", name=name, version=version).to_string()
        components.append({**build_component("library", purl, name, version), "purl": purl})
    return components


def list_metrics(evaluation: Evaluation) -> list[Component]:
    """List every metric with its interval, on all test rows and for each class."""
    overall = [format_metric(name, interval) for name, interval in evaluation.metrics.items()]
    by_class = [
        format_metric("f1", values.f1) | {"slice": name}
        for name, values in evaluation.classes.items()
    ]
    return overall + by_class


def format_metric(name: str, interval: Interval) -> Component:
    """Write a metric as CycloneDX does: all numbers as text."""
    return {
        "type": name,
        "value": str(interval.value),
        "confidenceInterval": {
            "lowerBound": str(interval.low),
            "upperBound": str(interval.high),
        },
    }
