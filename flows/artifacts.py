"""Artifacts."""

from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.recipe import resolved
from tasks.registry import manifests
from tasks.reports import bill_of_materials, model_card
from tasks.rows import dropped_rows
from tasks.storage import files, layout

DOCUMENT_NAMES = ("card.md", "bom.cdx.json")  # of a version, beside its manifest


def describe_source_rows(recipe: str) -> str:
    """How many rows the source held when it was last read, and what became of them."""
    told = files.read_json(layout.recipe_folder(recipe) / "raw" / "snapshot.json")
    return dropped_rows.describe_counts("ingest", told["rows_in"], told["rows"], told["rules"])


def write_documents(
    recipe: str, manifest: bytes, verdict: dict[str, Any], stages: list[dict[str, Any]]
) -> None:
    """Write the model card and the bill of materials of what was judged, whatever the verdict, and show the card."""
    folder, said = layout.recipe_folder(recipe), resolved.read_resolved_recipe(recipe)
    text = model_card.render_model_card(
        said, folder, manifests.derive_version(manifest), verdict, stages, verdict.get("override")
    )
    files.write_text(folder / DOCUMENT_NAMES[0], text)
    files.write_json(
        folder / DOCUMENT_NAMES[1],
        bill_of_materials.build_bill_of_materials(said, folder, manifest),
    )
    create_markdown_artifact(
        text.split("---\n", 2)[2],
        key=f"{recipe}-card",
        description="The model card, without the hub's metadata.",
    )


def publish_artifacts(recipe: str) -> list[str]:
    """Show what became of the rows, the metrics and what the checks warn of, also where they ran in an earlier flow; returns the warnings."""
    folder = layout.recipe_folder(recipe)
    create_table_artifact(
        model_card.count_rows_by_stage(folder),
        key=f"{recipe}-data",
        description="Rows in = rows out + rejects, at every step.",
    )
    evaluation = files.read_json(folder / "evaluation" / "metrics.json")
    metrics = [
        {
            "metric": name,
            "model": value["value"],
            "interval": f"{value['low']} to {value['high']}",
            "baseline": evaluation["baseline"][name]["value"],
        }
        for name, value in model_card.select_intervals(evaluation).items()
    ]
    create_table_artifact(
        metrics,
        key=f"{recipe}-metrics",
        description="The exported model on the test split, beside the baseline.",
    )
    warnings = [
        line
        for suite in ("raw", "ready")
        for line in files.read_json(folder / "checks" / suite / "result.json")["warnings"]
    ]
    if warnings:
        create_markdown_artifact(
            "\n".join(f"- {line}" for line in warnings), key=f"{recipe}-warnings"
        )
    return warnings
