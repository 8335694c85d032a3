"""Label: give every row a label and name its source; queue doubtful rows for people.

    python -m tasks.label support-desk

Writes labelled/rows.parquet (with label_source and label_confidence), labelled/rejects.parquet,
labelled/report.json, the page labelled/index.html, and the review queue: labelled/review.csv, and
labelled/review.labelstudio.json to import into Label Studio. The table with its column `label`
filled in, or Label Studio's export, is a file for the recipe's label.answers: the next run takes
these labels before all others.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts.label_report import AnswerCounts, LabelErrors, LabelReport
from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.labelling import annotations, functions, label_errors, resolve_labels, review_queue
from tasks.labelling.label_errors import LabelIssue
from tasks.labelling.resolve_labels import Doubt, ResolvedLabels
from tasks.labelling.review_queue import ReviewItem
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.rows import dropped_rows, label_values, rejected_rows
from tasks.storage import files
from tasks.storage.layout import StagePaths


def label(recipe_name: str) -> None:
    """Label the clean rows of a recipe."""
    run(resolved.read_resolved_recipe(recipe_name), StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Label the rows in `paths.clean` and write `paths.labelled`.

    Raises:
        StageError: A label is not usable, no row has one, or too many rows are dropped.
    """
    table = files.read_rows(paths.clean.path)
    people = annotations.load_annotations(recipe.label, recipe.problem)
    votes = functions.cast_votes(recipe, table)
    labels = resolve_labels.resolve_labels(recipe, table, people, votes)
    reviewed = review_labels(recipe, set_labels(table, labels), labels)

    folder = paths.labelled
    files.write_table(folder.rows, reviewed.rows)
    by_rule = rejected_rows.write_rejects(folder.rejects, reviewed.rejects, reviewed.rows)
    review_queue.write_review_queue(folder, recipe, reviewed.queue, labels.classes)
    row_ids = set(table["id"].to_pylist())
    report = LabelReport(
        rows_in=table.num_rows,
        rows=reviewed.rows.num_rows,
        rejects=sum(by_rule.values()),
        by_rule=by_rule,
        review=len(reviewed.queue),
        classes=count_classes(reviewed.rows, recipe.problem),
        sources=Counter(reviewed.rows["label_source"].to_pylist()),
        answers=AnswerCounts(total=len(people), used=len(row_ids & people.keys())),
        errors=LabelErrors(count=reviewed.n_issues, action=recipe.label.errors),
        model=recipe.label.model,
        functions=labels.functions,
    )
    report.write(folder.report)
    page = html_pages.render_page("labels", f"{recipe.name}: labels", report=report)
    files.write_text(folder.page, page)
    print(dropped_rows.describe_counts("label", report.rows_in, report.rows, by_rule), flush=True)
    dropped_rows.check_max_dropped(
        "label", report.rows_in, by_rule, recipe.max_dropped, folder.rejects
    )


@dataclass(frozen=True)
class ReviewedRows:
    """The rows that go on, those that do not, and those that a person has to look at."""

    rows: pa.Table
    rejects: list[pa.Table]
    queue: list[ReviewItem]
    n_issues: int  # labels that look wrong


def set_labels(table: pa.Table, labels: ResolvedLabels) -> pa.Table:
    """Set the column `label`, and append its source and confidence."""
    table = table.set_column(table.column_names.index("label"), "label", labels.column.labels)
    table = table.append_column("label_source", labels.column.sources)
    return table.append_column("label_confidence", labels.confidence)


def review_labels(recipe: Recipe, table: pa.Table, labels: ResolvedLabels) -> ReviewedRows:
    """Separate the rows without a label, and do with wrong labels what the recipe says.

    Raises:
        StageError: No row has a label.
    """
    is_missing = pc.is_null(table["label"]).combine_chunks()
    labelled = table.filter(pc.invert(is_missing))
    unlabelled = table.filter(is_missing)
    if labelled.num_rows == 0:
        raise StageError(
            f"label: none of {table.num_rows} rows has a label: name the column in columns.label, "
            "or give label.functions."
        )
    posterior = labels.posterior[is_missing.to_numpy(zero_copy_only=False)]
    doubts = resolve_labels.explain_unlabelled(recipe.label, labels.classes, posterior)
    no_label = ReviewedRows(
        rows=labelled,
        rejects=[reject_rows(unlabelled, "no label", doubts)],
        queue=review_queue.build_items(recipe, unlabelled, doubts),
        n_issues=0,
    )
    return no_label if recipe.label.errors == "keep" else review_issues(recipe, no_label)


def review_issues(recipe: Recipe, reviewed: ReviewedRows) -> ReviewedRows:
    """Queue the rows whose label looks wrong, and drop or relabel them if the recipe says so."""
    rows = reviewed.rows
    issues = label_errors.find_label_issues(recipe, rows)
    doubts = resolve_labels.explain_issues(rows, issues)
    suspicious = rows.take(pa.array([issue.row for issue in issues], pa.int64()))
    rejects = list(reviewed.rejects)
    if recipe.label.errors == "relabel":
        rows = resolve_labels.relabel_rows(rows, issues)
    elif recipe.label.errors == "drop":
        rows = remove_rows(rows, issues)
        rejects.append(reject_rows(suspicious, "label looks wrong", doubts))
    queue = [*reviewed.queue, *review_queue.build_items(recipe, suspicious, doubts)]
    return ReviewedRows(rows, rejects, queue, len(issues))


def remove_rows(rows: pa.Table, issues: Sequence[LabelIssue]) -> pa.Table:
    """Return the rows without those that have an issue."""
    removed = {issue.row for issue in issues}
    return rows.filter(pa.array([row not in removed for row in range(rows.num_rows)], pa.bool_()))


def reject_rows(rows: pa.Table, rule: str, doubts: Sequence[Doubt]) -> pa.Table:
    """Reject rows, each with the reason of its doubt."""
    reasons = pa.array([doubt.reason for doubt in doubts], pa.string())
    return rejected_rows.build_rejects(rows, "label", rule, reasons)


def count_classes(rows: pa.Table, problem: str) -> dict[str, int]:
    """Count the rows of each class."""
    counts: Counter[str] = Counter()
    for strata in label_values.assign_strata(problem, rows["label"].to_pylist()):
        counts.update(strata)
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    main(label)
