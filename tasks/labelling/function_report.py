"""What the report of the stage label says of each labelling function."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.contracts.label_report import FunctionReport
from tasks.labelling.label_model import ClassIndices, LabelModelFit, VoteMatrix
from tasks.recipe.label import LabellingFunction

# The field that tells a function from others of its kind: a function has one of these.
DEFINING_FIELDS = ("pattern", "words", "examples", "file", "path")
DIGITS = 4
LARGEST = 1 << 30  # more than any class index


@dataclass(frozen=True)
class VoteCounts:
    """The votes of one function."""

    votes: int
    overlaps: int  # in rows that another function votes for too
    conflicts: int  # in rows where functions disagree
    gold: int  # in rows whose label is known
    correct: int  # gold votes for the known label


def count_votes(votes: VoteMatrix, known: ClassIndices) -> list[VoteCounts]:
    """Count the votes of each function, and of these the overlaps, conflicts and correct ones."""
    is_vote = votes >= 0  # [rows, functions], as are the other masks
    is_gold = is_vote & (known >= 0)[:, None]
    is_overlap = is_vote & (is_vote.sum(axis=1, keepdims=True) > 1)
    is_conflict = is_overlap & find_disagreement(votes)
    is_correct = is_gold & (votes == known[:, None])
    return [
        VoteCounts(
            votes=int(is_vote[:, function].sum()),
            overlaps=int(is_overlap[:, function].sum()),
            conflicts=int(is_conflict[:, function].sum()),
            gold=int(is_gold[:, function].sum()),
            correct=int(is_correct[:, function].sum()),
        )
        for function in range(votes.shape[1])
    ]


def find_disagreement(votes: VoteMatrix) -> np.ndarray:
    """Tell for each row whether it has votes for different classes, shape `[rows, 1]`."""
    highest = votes.max(axis=1, keepdims=True, initial=-1)
    votes_only = np.where(votes >= 0, votes, votes.max(initial=-1))
    lowest = votes_only.min(axis=1, keepdims=True, initial=LARGEST)
    return np.asarray(highest != lowest)


def report_functions(
    functions: Sequence[LabellingFunction],
    votes: VoteMatrix,
    stated: ClassIndices,
    known: ClassIndices,
    fit: LabelModelFit,
) -> list[FunctionReport]:
    """Describe each function and count its votes.

    Args:
        functions: As the recipe declares them.
        votes: Of all functions.
        stated: The labels that people and the source gave. A trusted function is measured on
            these alone, because the other known labels are its own votes.
        known: The same, with those of trusted functions.
        fit: The label model's, of the functions that are not trusted, in their order.
    """
    counts_by_known = count_votes(votes, known)
    counts_by_stated = count_votes(votes, stated)
    reports = []
    voter = 0
    for index, function in enumerate(functions):
        if function.trusted:
            reports.append(describe_function(function, counts_by_stated[index], len(votes)))
            continue
        report = describe_function(function, counts_by_known[index], len(votes))
        accuracy = None if fit.accuracy is None else round_value(fit.accuracy[voter])
        weight = round_value(fit.weight[voter])
        reports.append(report.model_copy(update={"estimated_accuracy": accuracy, "weight": weight}))
        voter += 1
    return reports


def describe_function(
    function: LabellingFunction, counts: VoteCounts, n_rows: int
) -> FunctionReport:
    """Describe a function without what a label model learned about it."""
    return FunctionReport(
        kind=getattr(function, "kind", ""),
        trusted=function.trusted,
        definition=format_definition(function),
        label=getattr(function, "label", None),
        votes=counts.votes,
        overlaps=counts.overlaps,
        conflicts=counts.conflicts,
        gold=counts.gold,
        correct=counts.correct,
        coverage=round_value(counts.votes / max(n_rows, 1)),
        estimated_accuracy=None,
        weight=None,
    )


def format_definition(function: LabellingFunction) -> str:
    """Return what tells a function from others of its kind, such as its pattern or words."""
    field = next(name for name in DEFINING_FIELDS if hasattr(function, name))
    value = getattr(function, field)
    return value if isinstance(value, str) else ", ".join(value)


def round_value(value: float) -> float:
    """Round to what is worth printing."""
    return float(np.round(value, DIGITS))
