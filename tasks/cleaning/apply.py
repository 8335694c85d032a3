"""Apply."""

from itertools import groupby, pairwise
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from daft import col

from tasks.cleaning import RULES, pii
from tasks.rows import rejected_rows

MAX_EXAMPLES = 3
MAX_CANDIDATES = 30  # rows among which examples are looked for that differ and may be shown
RuleCall = tuple[str, dict[str, Any]]  # a rule and its arguments
RuleReport = dict[str, Any]  # what a rule did: {rule, changed, rejected, examples}


def to_rule_call(rule: dict[str, Any], modality: str) -> RuleCall:
    """A rule of the recipe with its arguments, the modality among them where it asks for it."""
    name, arguments = next(iter(rule.items()))
    return name, {**arguments, "modality": modality} if RULES[name].by_modality else arguments


def apply_rules(
    table: pa.Table, rules: list[RuleCall], kinds: frozenset[str]
) -> tuple[pa.Table, list[pa.Table], list[RuleReport]]:
    """The table after the rules, the rows that they dropped, and what each did."""
    dropped: list[pa.Table] = []
    told: list[RuleReport] = []
    for texts, group in groupby(rules, key=lambda rule: RULES[rule[0]].texts):
        if texts:
            table, more = apply_text_rules(table, list(group), kinds)
            told += more
            continue
        for rule, arguments in group:
            made = RULES[rule].apply(table, **arguments)
            after, reasons = (
                made
                if isinstance(made, tuple)
                else (made, None)
                if isinstance(made, pa.Table)
                else (table, made)
            )
            why = (
                pa.nulls(table.num_rows, pa.string())
                if reasons is None
                else pa.array(reasons, pa.string())
            )
            # a row that goes is kept as it was before the rule, but for what must be kept nowhere
            out = rejected_rows.build_rejects(
                (after if rule == "pii" else table).filter(why.is_valid()),
                "clean",
                rule,
                why.drop_null(),
            )
            dropped += [out] if out.num_rows else []
            before, left = table.filter(why.is_null()), after.filter(why.is_null())
            changed, examples = (
                (0, []) if after is table else find_differences(before, left, left, kinds)
            )
            examples += pii.redact_examples(
                out.slice(0, MAX_EXAMPLES).select(["id", "detail"]).to_pylist(), kinds, MAX_EXAMPLES
            )
            told.append(
                {"rule": rule, "changed": changed, "rejected": out.num_rows, "examples": examples}
            )
            table = left
    return table, dropped, told


def apply_text_rules(
    table: pa.Table, rules: list[RuleCall], kinds: frozenset[str]
) -> tuple[pa.Table, list[RuleReport]]:
    """The table after rules for texts, as one Daft plan, and for each rule how many texts it changed, with examples."""
    steps = ["text", *(f"text {number}" for number in range(len(rules)))]
    plan = daft.from_arrow(table.select(["id", "text"]))
    for (before, after), (rule, arguments) in zip(pairwise(steps), rules, strict=True):
        plan = plan.with_column(after, RULES[rule].apply(col(before), **arguments))
    done = plan.to_arrow().cast(pa.schema([(name, pa.string()) for name in ("id", *steps)]))
    if not done["id"].equals(table["id"]):  # a cluster may give its parts in another order
        done, table = done.sort_by("id"), table.sort_by("id")
    texts = [pa.table({"id": done["id"], "text": done[step]}) for step in steps]
    found = [find_differences(before, after, texts[-1], kinds) for before, after in pairwise(texts)]
    told = [
        {"rule": rule, "changed": changed, "rejected": 0, "examples": examples}
        for (rule, _), (changed, examples) in zip(rules, found, strict=True)
    ]
    return table.set_column(table.column_names.index("text"), "text", texts[-1]["text"]), told


def find_differences(
    before: pa.Table, after: pa.Table, last: pa.Table, kinds: frozenset[str]
) -> tuple[int, list[dict[str, Any]]]:
    """How many rows differ, and for each column the first cells that do; `last` is what the rules that follow leave."""
    touched, examples = np.zeros(before.num_rows, bool), []
    for name in (
        before.column_names if before.num_rows else []
    ):  # Arrow crashes where it looks for what differs in columns without chunks
        old, new = (
            (before[name], after[name])
            if before[name].type == after[name].type
            else (before[name].cast(pa.string()), after[name].cast(pa.string()))
        )
        differs = pc.or_(
            pc.fill_null(pc.not_equal(old, new), False), pc.xor(pc.is_null(old), pc.is_null(new))
        )
        touched |= differs.to_numpy()
        few = pa.array(differs.to_numpy() & (np.cumsum(differs) <= MAX_CANDIDATES))
        cells = pa.table(
            {"id": before["id"], "before": old, "after": new, "last": last[name]}
        ).filter(few)
        found = cells.cast(
            pa.schema([(key, pa.string()) for key in cells.column_names])
        ).to_pylist()
        examples += pii.redact_examples(
            [{**cell, "column": name} for cell in found], kinds, MAX_EXAMPLES
        )
    return int(touched.sum()), examples


def merge_reports(told: list[RuleReport]) -> RuleReport:
    """What a rule did to all parts."""
    counts = {key: sum(one[key] for one in told) for key in ("changed", "rejected")}
    return {
        "rule": told[0]["rule"],
        **counts,
        "examples": [example for one in told for example in one["examples"]][:MAX_EXAMPLES],
    }
