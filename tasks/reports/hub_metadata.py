"""The header of a model card: metadata that the Hugging Face hub reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclonedx.spdx import is_supported_id
from huggingface_hub import EvalResult, ModelCardData

from tasks.contracts.evaluation import Interval
from tasks.recipe.ingest import HuggingFaceSource
from tasks.recipe.recipe import Recipe

# Problems whose task is not the classification of their modality.
HUB_TASKS = {
    ("causal_lm", "language"): "text-generation",
    ("tabular", "regression"): "tabular-regression",
}


def build_hub_metadata(
    recipe: Recipe, metrics: Mapping[str, Interval], library: str
) -> ModelCardData:
    """Describe the model to the hub. What is unknown is left out, except for the licence.

    Args:
        recipe: The resolved recipe.
        metrics: On the test split, by name.
        library: What loads the model.
    """
    dataset = find_hub_dataset(recipe)
    license_id, license_name = describe_license(recipe.license)
    results = [
        EvalResult(
            task_type=hub_task(recipe),
            dataset_type=dataset or recipe.name,
            dataset_name=recipe.name,
            dataset_split="test",
            metric_type=hub_metric(name),
            metric_name=name,
            metric_value=interval.value,
        )
        for name, interval in metrics.items()
    ]
    return ModelCardData(
        license=license_id,
        license_name=license_name,
        language=list_languages(recipe) or None,
        library_name=library,
        tags=["onnx", "safetensors", "millrace", recipe.modality, recipe.problem],
        pipeline_tag=hub_task(recipe),
        base_model=find_hub_base(recipe),
        datasets=[dataset] if dataset else None,
        metrics=sorted({hub_metric(name) for name in metrics}) or None,
        model_name=recipe.name if results else None,
        eval_results=results or None,
    )


def hub_task(recipe: Recipe) -> str:
    """Name the hub's task."""
    return HUB_TASKS.get((recipe.modality, recipe.problem), f"{recipe.modality}-classification")


def hub_metric(name: str) -> str:
    """Name the hub's metric: it has one F1, and the result's name says how it is averaged."""
    return "f1" if name.endswith("f1") else name


def describe_license(name: str | None) -> tuple[str, str | None]:
    """Return the hub's id of a licence, and the licence's own name if it has no SPDX id."""
    if not name:
        return "unknown", None
    if is_supported_id(name):
        return name.lower(), None
    return "other", name


def find_hub_dataset(recipe: Recipe) -> str | None:
    """Return the name of the data set if it comes from the hub."""
    source = recipe.ingest
    if isinstance(source, HuggingFaceSource) and not Path(source.name).exists():
        return source.name
    return None


def find_hub_base(recipe: Recipe) -> str | None:
    """Return the name of the base model, such as `owner/name`, if it comes from the hub."""
    base = recipe.train.base
    if base and is_hub_name(base):
        return base
    return None


def is_hub_name(base: str) -> bool:
    """Return whether a base is named as the hub names models, and is no path here."""
    if base.count("/") != 1 or ":" in base:
        return False
    return not Path(base).exists()


def list_languages(recipe: Recipe) -> list[str]:
    """List the languages that the cleaning rules allow."""
    languages: list[str] = []
    for rule in recipe.clean.rules:
        if isinstance(rule, dict):
            options: Any = rule.get("language", {})
            languages += options.get("allow", [])
    return languages
