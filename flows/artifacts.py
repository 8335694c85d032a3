"""What a run shows in the Prefect UI: tables of rows and metrics, the verdict, the model card."""

from collections.abc import Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.candidates import Candidate
from tasks.contracts.check_result import SuiteResult
from tasks.contracts.evaluation import Evaluation
from tasks.contracts.evidence import Evidence
from tasks.contracts.gate_verdict import RuleResult
from tasks.contracts.run_record import StageEntry
from tasks.contracts.snapshot import Snapshot
from tasks.recipe import resolved
from tasks.reports import bill_of_materials, model_card
from tasks.rows import dropped_rows
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths


def list_documents(paths: StagePaths) -> list[Path]:
    """Return the documents that lie beside the manifest of a version."""
    return [paths.model_card, paths.bill_of_materials]


def describe_source_rows(recipe: str) -> str:
    """Say how many rows the source held when it was last read, and what became of them."""
    snapshot = Snapshot.read(StagePaths.of_recipe(recipe).raw.snapshot)
    return dropped_rows.describe_counts("ingest", snapshot.rows_in, snapshot.rows, snapshot.by_rule)


def publish_artifacts(recipe: str) -> list[str]:
    """Show the rows, the metrics and the warnings of the checks.

    They are shown also if the stages ran in an earlier flow.

    Returns:
        What the checks warn of.
    """
    paths = StagePaths.of_recipe(recipe)
    publish_row_counts(recipe, paths)
    publish_metrics(recipe, paths)
    warnings = read_warnings(paths)
    if warnings:
        text = "\n".join(f"- {line}" for line in warnings)
        create_markdown_artifact(text, key=f"{recipe}-warnings")
    return warnings


def publish_row_counts(recipe: str, paths: StagePaths) -> None:
    """Show what became of the rows."""
    create_table_artifact(
        [counts.to_table_row() for counts in model_card.count_rows_by_stage(paths)],
        key=f"{recipe}-data",
        description="Rows in = rows out + rejects, for every stage.",
    )


def publish_metrics(recipe: str, paths: StagePaths) -> None:
    """Show the metrics of the exported model beside those of the baseline."""
    evaluation = Evaluation.read(paths.evaluation.metrics)
    table = [
        {
            "metric": name,
            "model": interval.value,
            "interval": f"{interval.low} to {interval.high}",
            "baseline": evaluation.baseline[name].value,
        }
        for name, interval in evaluation.metrics.items()
    ]
    create_table_artifact(
        table,
        key=f"{recipe}-metrics",
        description="The exported model on the test split, beside the baseline.",
    )


def read_warnings(paths: StagePaths) -> list[str]:
    """Return what the checks of raw and of ready data warn of."""
    warnings: list[str] = []
    for suite in layout.SUITES:
        warnings += SuiteResult.read(paths.checks(suite).result).warnings
    return warnings


def publish_verdict(candidate: Candidate, evidence: Evidence, stages: Sequence[StageEntry]) -> None:
    """Show what each rule of the gate came to, and write the documents about the candidate."""
    create_table_artifact(
        [format_rule_result(result) for result in evidence.gate.checks],
        key=f"{candidate.recipe}-gate",
        description=f"**{evidence.verdict}**: {evidence.reason}",
    )
    write_documents(candidate, evidence, stages)


def format_rule_result(result: RuleResult) -> dict[str, str | None]:
    """Return the row of a rule of the gate."""
    return {
        "rule": result.rule,
        "metric": result.metric,
        "outcome": result.outcome,
        "reason": result.reason,
    }


def write_documents(candidate: Candidate, evidence: Evidence, stages: Sequence[StageEntry]) -> None:
    """Write the model card and the bill of materials, whatever the verdict; show the card."""
    paths = StagePaths.of_recipe(candidate.recipe)
    recipe = resolved.read_resolved_recipe(candidate.recipe)
    card = model_card.render_model_card(recipe, paths, candidate.version, evidence, stages)
    files.write_text(paths.model_card, card)
    bill = bill_of_materials.build_bill_of_materials(recipe, paths, candidate.manifest)
    files.write_json(paths.bill_of_materials, bill)
    _, _, text = card.split("---\n", 2)  # the hub's metadata stands between the first two
    create_markdown_artifact(
        text,
        key=f"{candidate.recipe}-card",
        description="The model card, without the hub's metadata.",
    )


def publish_promotion(candidate: Candidate, evidence: Evidence) -> None:
    """Show which version is in production now."""
    create_markdown_artifact(
        f"**{candidate.recipe} {candidate.version}** is in `{candidate.channel}`.\n\n"
        f"{evidence.reason}",
        key=f"{candidate.recipe}-version",
    )
