"""The rule `pii`: personal data is masked, hashed or encrypted in place, or its rows go."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning import pii_encryption, pii_patterns, pii_recognizers, table_cells
from tasks.cleaning.pii_encryption import Replacement
from tasks.cleaning.rules import RuleOutcome, row_rule
from tasks.contracts.cleaning_report import ChangedCell, RejectedRow
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.rows import table_columns

HIDDEN = "█████"  # stands for personal data in the examples of a report

Example = TypeVar("Example", ChangedCell, RejectedRow)


def mask_value(kind: str, value: str) -> str:  # noqa: ARG001  the signature of a Replacement
    """Replace a value by the name of its kind."""
    return f"[{kind}]"


def hide_value(kind: str, value: str) -> str:  # noqa: ARG001  the signature of a Replacement
    """Replace a value by a bar."""
    return HIDDEN


def build_replacement(action: str) -> Replacement:
    """Return what a recipe's `pii.action` does to a value.

    Raises:
        ConfigError: The action needs a key, and the environment holds none or a weak one.
    """
    if action == "hash":
        return pii_encryption.build_hasher()
    if action == "encrypt":
        return pii_encryption.build_encrypter()
    return mask_value


def replace_pii(text: str, kinds: frozenset[str], replace: Replacement) -> tuple[str, list[str]]:
    """Replace each finding in a text. Returns the text and the kinds of the findings."""
    findings = pii_recognizers.find_pii(text, kinds)
    for finding in reversed(findings):
        value = text[finding.start : finding.end]
        text = text[: finding.start] + replace(finding.kind, value) + text[finding.end :]
    return text, [finding.kind for finding in findings]


@row_rule("pii", redacts_rejects=True)
def protect_pii(
    table: pa.Table, modality: str, action: str, kinds: list[str], columns: list[str] | None
) -> RuleOutcome:
    """Replace personal data in the named columns.

    If none is named, these are the text, or in a table all text columns without another role.
    `drop` masks as well, because people read rejects, and gives each row with a finding a
    reason that names kinds and no value.
    """
    search = PiiSearch(frozenset(kinds), build_replacement(action))
    counts: list[Counter[str]] = [Counter() for _ in range(table.num_rows)]
    if columns is None and CONTENT_COLUMN[modality] == "text":
        columns = ["text"]
    names = table_cells.select_text_columns(table, "pii", columns, table_columns.ROLE_COLUMNS)
    for name in names:
        column = search.replace_in_column(table[name].combine_chunks(), counts)
        table = table_cells.replace_columns(table, {name: column})
    if action != "drop":
        return RuleOutcome(table)
    return RuleOutcome(table, [describe_findings(row_counts) for row_counts in counts])


@dataclass(frozen=True)
class PiiSearch:
    """Kinds of personal data, and what replaces their values."""

    kinds: frozenset[str]
    replace: Replacement

    def replace_in_column(self, column: pa.Array, counts: list[Counter[str]]) -> pa.Array:
        """Replace findings in a column of text, and count them by row and kind."""
        # The hint takes linear time, and far less than the search.
        has_hint = pc.match_substring_regex(column, build_hint(self.kinds))
        has_hint = pc.fill_null(has_hint, fill_value=False)
        rows = pc.indices_nonzero(has_hint).to_pylist()
        texts = []
        for row, text in zip(rows, column.filter(has_hint).to_pylist(), strict=True):
            replaced, kinds = replace_pii(text, self.kinds, self.replace)
            texts.append(replaced)
            counts[row].update(kinds)
        return pc.replace_with_mask(column, has_hint, pa.array(texts, column.type))


def build_hint(kinds: frozenset[str]) -> str:
    """Build the RE2 pattern without which a text holds none of the kinds."""
    pattern = "|".join(pii_patterns.HINT_PATTERNS[kind] for kind in sorted(kinds))
    # RE2's \d is ASCII's, Python's is not.
    return pattern.replace(r"\d", r"\p{Nd}").replace(r"\D", r"\P{Nd}")


def describe_findings(counts: Counter[str]) -> str | None:
    """Describe findings as `2 email, 1 phone`; None if there are none."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or None


def redact_changes(
    candidates: Iterable[tuple[ChangedCell, str | None]], kinds: frozenset[str], limit: int
) -> list[ChangedCell]:
    """Choose the first examples that differ from each other, and hide personal data in them.

    Args:
        candidates: Changed cells, each with its text after the rules that follow. If that text
            holds personal data, the example is left out: before those rules, as in
            `a&#64;b.org`, the data need not be recognized.
        kinds: The kinds of personal data to hide.
        limit: The most examples to choose.
    """
    chosen: dict[tuple[str | None, str | None], ChangedCell] = {}
    for cell, final in candidates:
        if len(chosen) == limit:
            break
        if kinds and final and pii_recognizers.find_pii(final, kinds):
            continue
        hidden = hide_pii(cell, kinds)
        chosen.setdefault((hidden.before, hidden.after), hidden)
    return list(chosen.values())


def redact_rejected(rows: Iterable[RejectedRow], kinds: frozenset[str]) -> list[RejectedRow]:
    """Hide personal data in examples of rejected rows; keep one for each id."""
    chosen: dict[str | None, RejectedRow] = {}
    for row in rows:
        hidden = hide_pii(row, kinds)
        chosen.setdefault(hidden.id, hidden)
    return list(chosen.values())


def hide_pii(example: Example, kinds: frozenset[str]) -> Example:
    """Hide personal data in all texts of an example."""
    if not kinds:
        return example
    hidden = {}
    for key, value in example:
        hidden[key] = replace_pii(value, kinds, hide_value)[0] if value else value
    return example.model_copy(update=hidden)
