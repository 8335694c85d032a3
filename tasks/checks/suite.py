"""Decides whether data may be used: Great Expectations, the split's proof, and drift.

A suite writes checks/<suite>/result.json, failing.parquet with the ids of the rows that fail, and
a page, index.html. If an expectation of severity `fail` does not hold, the pipeline stops here.
Otherwise passed.json lets the next stage begin, and accepted.json keeps the snapshot's profile:
DVC leaves this folder as it is before a run, so the next snapshot finds it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tasks.checks import drift, expectations, profile
from tasks.checks.drift import AcceptedSnapshot
from tasks.contracts.check_result import CheckOutcome, CheckResult, SuiteResult
from tasks.core.errors import StageError
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.storage import files, hashing
from tasks.storage.layout import CheckFolder

FAILING_SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("expectation", pa.string()),
        ("id", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
    ]
)
FIRST_SNAPSHOT_NOTE = (
    "There is no earlier accepted snapshot to compare with: this one is the first."
)


@dataclass(frozen=True)
class CheckedData:
    """What a suite checks."""

    table: pa.Table
    snapshot: str  # fingerprint of the files that hold the rows
    outcomes: Sequence[CheckOutcome] = ()  # of checks that were made elsewhere
    notes: Sequence[str] = ()


def fingerprint_snapshot(sources: Sequence[Path]) -> str:
    """Hash the files of a snapshot."""
    return hashing.hash_json([hashing.sha256(path) for path in sources])


def run_suite(recipe: Recipe, suite: str, data: CheckedData, folder: CheckFolder) -> None:
    """Check data, and write the results whether the expectations hold or not.

    Args:
        recipe: Declares the expectations.
        suite: `raw` or `ready`.
        data: The rows.
        folder: Where the results go.

    Raises:
        StageError: An expectation of severity `fail` does not hold.
    """
    accepted = AcceptedSnapshot.read_if_exists(folder.accepted)
    remove_last_results(folder)
    reference = accepted.reference_for(data.snapshot) if accepted else None
    current = profile.build_profile(data.table, recipe.modality, recipe.problem)
    notes = list(data.notes)
    outcomes = [*check_expectations(recipe, suite, data.table), *data.outcomes]
    rules = recipe.check.drift
    if rules and reference:
        results = drift.check_drift(data.table, current, reference, rules)
        outcomes.extend(CheckOutcome(result) for result in results)
    elif rules:
        notes.append(FIRST_SNAPSHOT_NOTE)

    summary = summarize(suite, data.table.num_rows, outcomes, notes)
    for warning in summary.warnings:
        print(f"warning: {warning}", flush=True)
    summary.write(folder.result)
    write_failing_rows(folder, outcomes)
    page = html_pages.render_page("checks", f"{recipe.name}: check {suite}", report=summary)
    files.write_text(folder.page, page)
    stopping = [item for item in list_failures(summary.results) if item.severity == "fail"]
    if stopping:
        raise StageError(describe_stop(suite, len(outcomes), stopping, folder))
    files.write_json(folder.passed, {"snapshot": data.snapshot})
    newly_accepted = AcceptedSnapshot(snapshot=data.snapshot, profile=current, reference=reference)
    newly_accepted.write(folder.accepted)


def remove_last_results(folder: CheckFolder) -> None:
    """Remove what the last run wrote, which may have been of other data."""
    for path in set(folder.path.glob("*")) - {folder.accepted}:
        path.unlink()


def check_expectations(recipe: Recipe, suite: str, table: pa.Table) -> list[CheckOutcome]:
    """Check the expectations of the recipe; they see no column of bytes."""
    declared = recipe.check.raw if suite == "raw" else recipe.check.ready
    if not declared:
        return []
    names = [field.name for field in table.schema if not pa.types.is_binary(field.type)]
    return expectations.validate_rows(table.select(names), declared, suite)


def summarize(
    suite: str, n_rows: int, outcomes: Sequence[CheckOutcome], notes: list[str]
) -> SuiteResult:
    """Join the results of a suite."""
    results = [count_ids(outcome) for outcome in outcomes]
    failures = list_failures(results)
    warnings = [item for item in failures if item.severity == "warn"]
    return SuiteResult(
        rows=n_rows,
        success=not failures,
        results=results,
        warnings=[f"check {suite}: {describe_result(item)}" for item in warnings],
        notes=notes,
    )


def count_ids(outcome: CheckOutcome) -> CheckResult:
    """Complete a result by the number of rows that fail."""
    if outcome.failing is None:
        return outcome.result
    return outcome.result.model_copy(update={"ids": outcome.failing.num_rows})


def list_failures(results: Sequence[CheckResult]) -> list[CheckResult]:
    """List the results of expectations that do not hold."""
    return [result for result in results if not result.success]


def write_failing_rows(folder: CheckFolder, outcomes: Sequence[CheckOutcome]) -> None:
    """Write the ids of the rows that fail, by the number of the expectation."""
    parts = [FAILING_SCHEMA.empty_table()]
    for number, outcome in enumerate(outcomes):
        if outcome.failing is None or not outcome.failing.num_rows:
            continue
        n_rows = outcome.failing.num_rows
        numbers = pa.repeat(pa.scalar(number, pa.int32()), n_rows)
        names = pa.repeat(outcome.result.expectation, n_rows)
        columns = [numbers, names, *outcome.failing.columns]
        parts.append(pa.table(columns, schema=FAILING_SCHEMA))
    files.write_table(folder.failing, pa.concat_tables(parts), sort="number")


def describe_result(result: CheckResult) -> str:
    """Describe a failure: the expectation, its arguments, what was observed, and examples."""
    arguments = ", ".join(f"{key}={value}" for key, value in result.arguments.items())
    if result.unexpected is not None:
        finding = f"{result.unexpected} unexpected values"
    elif result.observed is not None:
        finding = f"observed {result.observed}"
    else:
        finding = "it does not hold"
    examples = ""
    if result.examples:
        # Examples of the recipe's expectations are values, those of other checks are words.
        show = repr if result.source == "recipe" else str
        examples = f", such as {', '.join(map(show, result.examples))}"
    return f"{result.expectation}({arguments}): {finding}{examples}."


def describe_stop(
    suite: str, n_expectations: int, stopping: Sequence[CheckResult], folder: CheckFolder
) -> str:
    """Describe why the pipeline stops, and what to do."""
    failures = " ".join(describe_result(result) for result in stopping)
    return (
        f"check {suite}: {len(stopping)} of {n_expectations} expectations fail. {failures} "
        f"{describe_remedy(suite, stopping, folder)}"
    )


def describe_remedy(suite: str, stopping: Sequence[CheckResult], folder: CheckFolder) -> str:
    """Say where the failures are shown, and what can be changed."""
    sources = {result.source for result in stopping}
    see = f"See {folder.page}"
    if any(result.ids for result in stopping):
        see += f", and {folder.failing} for the ids"
    keys = []
    if "recipe" in sources:
        keys.append(f"check.{suite}")
    if "drift" in sources:
        keys.append("check.drift")
    mend = "mend the data"
    if keys:
        mend += f", or change {' and '.join(keys)} in the recipe"
    accept = ""
    if "drift" in sources:
        accept = (
            f" If the data is meant to be so now, delete {folder.accepted}: it is then compared "
            f"with nothing."
        )
    return f"{see}; {mend}.{accept}"
