"""Clean: apply the recipe's rules in order, count changes, and keep what each rule rejects.

    python -m tasks.clean support-desk

Writes clean/parts/*.parquet, clean/rejects.parquet/, clean/report.json, which names the files
that hold the rows, and a page, clean/index.html. Rules that look at one row at a time, and exact
duplicates, are applied to one part of the raw data after the other, so memory does not grow with
the data. A part that is unchanged since the last run is verified and kept. The first rule that
needs all rows at once, and the rules after it, get all rows; clean/rows.parquet holds the result.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.cleaning import apply, pii_encryption
from tasks.cleaning.incremental import IncrementalCleaner, RawFile
from tasks.cleaning.plan import RulePlan
from tasks.contracts.cleaning_report import CleaningReport, RuleReport
from tasks.contracts.cleaning_state import CleanedPart, CleaningState
from tasks.contracts.snapshot import Snapshot
from tasks.core import ray_cluster
from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.rows import dropped_rows, rejected_rows
from tasks.storage import cache_keys, code_closure, files, hashing, layout
from tasks.storage.layout import CleanFolder, RawFolder, StagePaths


def clean(recipe_name: str) -> None:
    """Clean the snapshot of a registered recipe."""
    run(resolved.read_resolved_recipe(recipe_name), StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Clean the snapshot in raw/."""
    ray_cluster.select_runner(recipe.engine.kind, recipe.engine.address)
    plan = RulePlan.of_recipe(recipe)
    raw_files = list_raw_files(paths.raw)
    schema = pa.unify_schemas([pq.read_schema(paths.raw.path / file.name) for file in raw_files])
    cache_key = compute_cache_key(recipe, schema)

    previous = read_previous_parts(paths, cache_key)
    cleaner = IncrementalCleaner(paths.raw, paths.clean, plan, schema, previous)
    parts = cleaner.clean_all(raw_files)
    result = CleaningResult.of_parts(parts, n_rules=len(plan.streamed))
    if plan.whole and result.rows:
        result = clean_whole(paths.clean, plan, schema, result)
    report = result.report()
    require_rows(report)

    rejected_rows.complete_rejects_folder(
        paths.clean.rejects, result.reject_files, schema.empty_table()
    )
    print(
        dropped_rows.describe_counts("clean", report.rows_in, report.rows, report.by_rule),
        flush=True,
    )
    write_report(recipe, paths.clean, report)
    CleaningState(parts=parts).write(paths.clean.state)
    cache_keys.record_cache_key(paths.cache_keys, paths.clean.state, cache_key)
    remove_stale_files(paths.clean, parts, report.files)
    dropped_rows.check_max_dropped(
        "clean", report.rows_in, report.by_rule, recipe.max_dropped, paths.clean.rejects
    )


def list_raw_files(raw: RawFolder) -> list[RawFile]:
    """List the files of the snapshot."""
    partitions = Snapshot.read(raw.snapshot).partitions
    return [RawFile(partition.file, partition.sha256) for partition in partitions]


def compute_cache_key(recipe: Recipe, schema: pa.Schema) -> str:
    """Hash all that decides what a part becomes, but for the part itself."""
    key_id = pii_encryption.compute_key_id(recipe.clean.rules)
    settings = [recipe.clean.rules, recipe.modality, key_id, schema.names]
    return code_closure.hash_stage_code("clean") + hashing.hash_json(settings)


def read_previous_parts(paths: StagePaths, cache_key: str) -> list[CleanedPart]:
    """Return the parts of the last run, if the same code and rules cleaned them."""
    state = paths.clean.state
    if not cache_keys.is_written_with(paths.cache_keys, state, cache_key):
        return []
    return CleaningState.read(state).parts


@dataclass(frozen=True)
class CleaningResult:
    """What the rules so far did to all rows."""

    rows_in: int
    rows: int
    rules: list[RuleReport]
    row_files: list[str]  # below clean/, which hold the rows that stay
    reject_files: list[str]  # below clean/rejects.parquet/

    @classmethod
    def of_parts(cls, parts: Sequence[CleanedPart], n_rules: int) -> "CleaningResult":
        """Add up what the first `n_rules` rules did to each part."""
        return cls(
            rows_in=sum(part.rows_in for part in parts),
            rows=sum(part.rows for part in parts),
            rules=merge_rules(parts, n_rules),
            row_files=[f"parts/{part.file}" for part in parts],
            reject_files=[part.file for part in parts if layout.REJECTS in part.sha256],
        )

    def report(self) -> CleaningReport:
        """Return what the stage reports."""
        by_rule: Counter[str] = Counter()
        for rule in self.rules:
            if rule.rejected:
                by_rule[rule.rule] += rule.rejected
        return CleaningReport(
            rows_in=self.rows_in,
            rows=self.rows,
            rejects=by_rule.total(),
            by_rule=by_rule,
            rules=self.rules,
            files=self.row_files,
        )


def merge_rules(parts: Sequence[CleanedPart], n_rules: int) -> list[RuleReport]:
    """Add up what each rule did to all parts."""
    merged = []
    for number in range(n_rules):
        reports = [part.rules[number] for part in parts]
        merged.append(apply.merge_reports(reports))
    return merged


def clean_whole(
    folder: CleanFolder, plan: RulePlan, schema: pa.Schema, result: CleaningResult
) -> CleaningResult:
    """Apply the rules that need all rows at once, and write rows.parquet."""
    table = files.read_table([folder.path / name for name in result.row_files]).sort_by("id")
    cleaned = apply.apply_rules(table, plan.whole, plan.pii_kinds)
    files.write_table(folder.rows, cleaned.table)
    reject_files = list(result.reject_files)
    if cleaned.rejects:
        rejects = rejected_rows.concat_rejects(cleaned.rejects, schema.empty_table())
        files.write_table(folder.rejects / folder.rows.name, rejects)
        reject_files.append(folder.rows.name)
    return CleaningResult(
        rows_in=result.rows_in,
        rows=cleaned.table.num_rows,
        rules=[*result.rules, *cleaned.reports],
        row_files=[folder.rows.name],
        reject_files=reject_files,
    )


def require_rows(report: CleaningReport) -> None:
    """Raise a StageError that names the worst rule, if no row is left."""
    if report.rows:
        return
    worst = max(report.rules, key=lambda rule: rule.rejected)
    raise StageError(
        f"clean: no row is left of {report.rows_in}; {worst.rule} dropped {worst.rejected}: "
        f"see its arguments in the recipe."
    )


def write_report(recipe: Recipe, folder: CleanFolder, report: CleaningReport) -> None:
    """Write the report, for programs and as a page."""
    report.write(folder.report)
    page = html_pages.render_page("cleaning", f"{recipe.name}: clean", report=report)
    files.write_text(folder.page, page)


def remove_stale_files(
    folder: CleanFolder, parts: Sequence[CleanedPart], row_files: Sequence[str]
) -> None:
    """Remove what earlier runs left, also half-written."""
    for kind in (folder.parts, folder.keys):
        files.remove_other_files(kind, [part.file for part in parts if kind.name in part.sha256])
    files.remove_other_files(folder.path, row_files)


if __name__ == "__main__":
    main(clean)
