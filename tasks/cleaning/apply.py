"""Applies rules to a table, and reports what each of them did."""

from dataclasses import dataclass, field
from itertools import groupby, pairwise

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import col
from numpy.typing import NDArray

from tasks.cleaning import pii
from tasks.cleaning.rules import ContentKeys, RuleCall, Scope
from tasks.contracts.cleaning_report import ChangedCell, RejectedRow, RuleReport
from tasks.rows import image_decoding, rejected_rows

MAX_EXAMPLES = 3
MAX_CANDIDATES = 30  # changed cells among which examples are chosen that may be shown


@dataclass(frozen=True)
class CleanedTable:
    """A table after rules were applied to it."""

    table: pa.Table
    rejects: list[pa.Table] = field(default_factory=list)  # at most one for each rule
    reports: list[RuleReport] = field(default_factory=list)  # in the order of the rules
    content_keys: ContentKeys | None = None

    def then(self, later: "CleanedTable") -> "CleanedTable":
        """Join what later rules did to this table."""
        return CleanedTable(
            later.table,
            [*self.rejects, *later.rejects],
            [*self.reports, *later.reports],
            later.content_keys or self.content_keys,
        )


def apply_rules(table: pa.Table, calls: list[RuleCall], pii_kinds: frozenset[str]) -> CleanedTable:
    """Apply rules in their order.

    Args:
        table: The rows to clean.
        calls: The rules with their arguments.
        pii_kinds: Kinds of personal data that the examples of a report must not show.
    """
    result = CleanedTable(table)
    for is_text, group in groupby(calls, key=is_text_rule):
        if is_text:
            result = result.then(apply_text_rules(result.table, list(group), pii_kinds))
            continue
        for call in group:
            result = result.then(apply_rule(result.table, call, pii_kinds))
    return result


def is_text_rule(call: RuleCall) -> bool:
    """Tell whether a rule is applied as a Daft expression."""
    return call.rule.scope is Scope.TEXT


def apply_rule(table: pa.Table, call: RuleCall, pii_kinds: frozenset[str]) -> CleanedTable:
    """Apply one rule to the rows of a table."""
    outcome = call.apply(table)
    reasons = outcome.reasons or [None] * table.num_rows
    reason_column = pa.array(reasons, pa.string())
    is_kept = reason_column.is_null()
    before = table.filter(is_kept)
    after = outcome.table.filter(is_kept)

    # A rejected row keeps the cells that it had before the rule, unless nothing may keep them.
    rejected_from = outcome.table if call.rule.redacts_rejects else table
    rejects = rejected_rows.build_rejects(
        rejected_from.filter(reason_column.is_valid()),
        "clean",
        call.name,
        reason_column.drop_null(),
    )
    changes = Differences()
    if outcome.table is not table:
        changes = find_differences(before, after, after, pii_kinds)
    report = RuleReport(
        rule=call.name,
        changed=changes.n_rows,
        rejected=rejects.num_rows,
        examples=[*changes.examples, *choose_rejected_examples(rejects, pii_kinds)],
    )
    return CleanedTable(
        after, [rejects] if rejects.num_rows else [], [report], outcome.content_keys
    )


def choose_rejected_examples(rejects: pa.Table, pii_kinds: frozenset[str]) -> list[RejectedRow]:
    """The first rejected rows, without personal data."""
    rows = rejects.slice(0, MAX_EXAMPLES).select(["id", "detail"]).to_pylist()
    return pii.redact_rejected([RejectedRow(**row) for row in rows], pii_kinds)


def apply_text_rules(
    table: pa.Table, calls: list[RuleCall], pii_kinds: frozenset[str]
) -> CleanedTable:
    """Apply rules for texts as one Daft plan, which keeps the text after each rule."""
    steps = ["text", *(f"text {number}" for number in range(len(calls)))]
    plan = daft.from_arrow(table.select(["id", "text"]))
    for (before, after), call in zip(pairwise(steps), calls, strict=True):
        plan = plan.with_column(after, call.extend_expression(col(before)))
    types = pa.schema([(name, pa.string()) for name in ("id", *steps)])
    cleaned = plan.to_arrow().cast(types)
    if not cleaned["id"].equals(table["id"]):  # a cluster may return the rows in another order
        cleaned = cleaned.sort_by("id")
        table = table.sort_by("id")

    texts = [pa.table({"id": cleaned["id"], "text": cleaned[step]}) for step in steps]
    final = texts[-1]
    reports = []
    for (before, after), call in zip(pairwise(texts), calls, strict=True):
        changes = find_differences(before, after, final, pii_kinds)
        reports.append(
            RuleReport(
                rule=call.name, changed=changes.n_rows, rejected=0, examples=changes.examples
            )
        )
    position = table.column_names.index("text")
    return CleanedTable(table.set_column(position, "text", final["text"]), reports=reports)


@dataclass(frozen=True)
class Differences:
    """How two tables of the same rows and columns differ."""

    n_rows: int = 0  # rows of which at least one cell differs
    examples: list[ChangedCell] = field(default_factory=list)


def find_differences(
    before: pa.Table, after: pa.Table, final: pa.Table, pii_kinds: frozenset[str]
) -> Differences:
    """Count the rows that differ, and choose examples for each column.

    Args:
        before: The rows before a rule.
        after: The same rows after it.
        final: The same rows after the rules that follow.
        pii_kinds: Kinds of personal data that the examples must not show.
    """
    if not before.num_rows:  # Arrow crashes when it compares columns without chunks
        return Differences()
    is_changed = np.zeros(before.num_rows, bool)  # [rows]
    examples: list[ChangedCell] = []
    for name in before.column_names:
        differs = find_changed_cells(before[name], after[name])
        is_changed |= differs
        candidates = differs & (np.cumsum(differs) <= MAX_CANDIDATES)
        columns = {
            "id": before["id"], "before": before[name], "after": after[name], "final": final[name]
        }  # fmt: skip
        cells = select_as_text(columns, candidates)
        examples += choose_changed_examples(name, cells, pii_kinds)
    return Differences(int(is_changed.sum()), examples)


def find_changed_cells(before: pa.ChunkedArray, after: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Compare two columns, as text if their types differ. Returns a mask of shape [rows]."""
    if before.type != after.type:
        before = before.cast(pa.string())
        after = after.cast(pa.string())
    is_other_value = pc.fill_null(pc.not_equal(before, after), fill_value=False)
    is_null_in_one = pc.xor(pc.is_null(before), pc.is_null(after))
    return np.asarray(pc.or_(is_other_value, is_null_in_one).to_numpy())


def select_as_text(columns: dict[str, pa.ChunkedArray], mask: NDArray[np.bool_]) -> pa.Table:
    """Return the cells under the mask, all as text."""
    is_chosen = pa.array(mask)
    chosen = {name: column.filter(is_chosen) for name, column in columns.items()}
    return pa.table({name: show_cells(column) for name, column in chosen.items()})


def show_cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return cells as text, and of images the size."""
    if not pa.types.is_binary(column.type):
        return column.cast(pa.string())
    shown = [image_decoding.describe_image(data) for data in column.to_pylist()]
    return pa.chunked_array([pa.array(shown, pa.string())])


def choose_changed_examples(
    column: str, cells: pa.Table, pii_kinds: frozenset[str]
) -> list[ChangedCell]:
    """Choose changed cells that a report may show."""
    candidates = []
    for cell in cells.to_pylist():
        final = cell.pop("final")
        candidates.append((ChangedCell(column=column, **cell), final))
    return pii.redact_changes(candidates, pii_kinds, MAX_EXAMPLES)


def merge_reports(parts: list[RuleReport]) -> RuleReport:
    """Add up what a rule did to all parts."""
    examples: list[ChangedCell | RejectedRow] = []
    for part in parts:
        examples += part.examples
    return RuleReport(
        rule=parts[0].rule,
        changed=sum(part.changed for part in parts),
        rejected=sum(part.rejected for part in parts),
        examples=examples[:MAX_EXAMPLES],
    )
