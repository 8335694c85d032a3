"""The label of each row, from the first source that has one.

The sources are people, the data's own column, trusted functions in their order, and last the label
model over the votes of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.contracts.label_report import FunctionReport
from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.labelling import function_report, label_model
from tasks.labelling.label_errors import LabelIssue
from tasks.labelling.label_model import ABSTAIN, ClassIndices
from tasks.recipe.label import Label
from tasks.recipe.recipe import Recipe
from tasks.rows import label_values

MAX_GUESSES = 3  # in an explanation
RELABELLED = "relabelled"  # the source of a label that was replaced


@dataclass(frozen=True)
class LabelSource:
    """The labels that one source gives, null if it gives none."""

    name: str
    labels: pa.Array  # [rows]


@dataclass(frozen=True)
class LabelColumn:
    """One label for each row, and the source that it is from; null if no source has one."""

    labels: pa.Array  # [rows]
    sources: pa.Array  # [rows]

    @classmethod
    def first_non_null(cls, candidates: Sequence[LabelSource]) -> "LabelColumn":
        """Take each row's label from the first source that has one."""
        no_name = pa.scalar(None, pa.string())
        names = [
            pc.if_else(pc.is_valid(source.labels), source.name, no_name) for source in candidates
        ]
        labels = pc.coalesce(*(source.labels for source in candidates))
        return cls(labels.cast(pa.string()), pc.coalesce(*names).cast(pa.string()))


@dataclass(frozen=True)
class VotedLabels:
    """What the label model decides for each row."""

    labels: pa.Array  # [rows], null if it is not confident enough
    posterior: NDArray[np.float64]  # [rows, classes]
    functions: list[FunctionReport]


@dataclass(frozen=True)
class ResolvedLabels:
    """The label of each row, and what the review queue and the report need."""

    column: LabelColumn
    confidence: pa.Array  # [rows]
    classes: list[str]
    posterior: NDArray[np.float64]  # [rows, classes], by the label model
    functions: list[FunctionReport]


@dataclass(frozen=True)
class Doubt:
    """Why a person has to look at a row, and the label that it may have ('' if unknown)."""

    reason: str
    guess: str


def resolve_labels(
    recipe: Recipe, table: pa.Table, annotations: Mapping[str, str], votes: Sequence[pa.Array]
) -> ResolvedLabels:
    """Label each row.

    Args:
        recipe: Its section `label` names the sources.
        table: The rows, whose column `label` holds the labels of the data.
        annotations: The labels that people gave, by row id.
        votes: Of each labelling function.

    Raises:
        StageError: A label cannot be read, or is not among the classes that the recipe lists.
    """
    config = recipe.label
    stated = [
        LabelSource("people", pa.array(map(annotations.get, table["id"].to_pylist()), pa.string())),
        LabelSource("given", read_given_labels(table, recipe.problem)),
    ]
    trusted = [
        LabelSource(function.kind, vote)
        for function, vote in zip(config.functions, votes, strict=True)
        if function.trusted
    ]
    known = LabelColumn.first_non_null([*stated, *trusted]).labels
    strata = label_values.assign_strata(recipe.problem, known.drop_null().to_pylist())
    check_allowed_classes(table.filter(pc.is_valid(known))["id"].to_pylist(), strata, config)
    classes = config.classes or collect_classes(strata, votes)
    stated_labels = LabelColumn.first_non_null(stated).labels
    voted = label_by_votes(config, classes, votes, stated_labels, known)
    # A known label was somebody's decision; others have the label model's confidence.
    model_confidence = pa.array(voted.posterior.max(axis=1, initial=0))
    from_functions = LabelSource("functions", voted.labels)
    return ResolvedLabels(
        column=LabelColumn.first_non_null([*stated, *trusted, from_functions]),
        confidence=pc.if_else(pc.is_valid(known), 1.0, model_confidence),
        classes=classes,
        posterior=voted.posterior,
        functions=voted.functions,
    )


def read_given_labels(table: pa.Table, problem: str) -> pa.Array:
    """Read the data's own labels; an empty cell is no label.

    A number stays as it is written; other labels are written as equal ones are everywhere.
    """
    cells = pc.utf8_trim_whitespace(table["label"].combine_chunks())
    cells = pc.if_else(pc.equal(cells, ""), None, cells)
    labels = label_values.parse_labels(problem, cells.to_pylist(), table["id"].to_pylist())
    if problem == "regression":
        return cells
    return pa.array([label_values.format_label(problem, label) for label in labels], pa.string())


def collect_classes(strata: Sequence[Sequence[str]], votes: Sequence[pa.Array]) -> list[str]:
    """List the classes that a known label or a vote names, at least one."""
    names: set[str] = set()
    for row_strata in strata:
        names.update(row_strata)
    for vote in votes:
        names.update(pc.unique(vote.drop_null()).to_pylist())
    return sorted(names) or [""]


def check_allowed_classes(
    ids: Sequence[str], strata: Sequence[Sequence[str]], config: Label
) -> None:
    """Require that all known labels are among the classes that the recipe lists, if any.

    Raises:
        StageError: A label is not; the message counts its rows.
    """
    if not config.classes:
        return
    for row_id, names in zip(ids, strata, strict=True):
        for name in sorted(set(names) - set(config.classes)):
            count = sum(name in row_strata for row_strata in strata)
            raise StageError(
                f"label {name!r} of {count} row(s), first {row_id}, is not among label.classes"
                f"{suggest_nearest(name, config.classes)}: correct the source, or add it to the "
                "list in the recipe."
            )


def label_by_votes(
    config: Label,
    classes: list[str],
    votes: Sequence[pa.Array],
    stated: pa.Array,
    known: pa.Array,
) -> VotedLabels:
    """Fit the label model to the votes of the functions that are not trusted, and decide.

    Args:
        config: The recipe's section.
        classes: That a label can be of.
        votes: Of all functions.
        stated: The labels of people and of the data.
        known: The same, with those of trusted functions.
    """
    matrix = np.zeros((len(known), len(votes)), np.int64)  # [rows, functions]
    for function, vote in enumerate(votes):
        matrix[:, function] = index_classes(vote, classes)
    voters = [index for index, function in enumerate(config.functions) if not function.trusted]
    known_indices = index_classes(known, classes)
    fit_model = label_model.LABEL_MODELS[config.model]
    fit = fit_model(matrix[:, voters], len(classes), known_indices)
    best, is_confident = fit.decide(config.confidence)
    best_labels = pa.array(classes, pa.string()).take(pa.array(best))
    return VotedLabels(
        labels=pc.if_else(pa.array(is_confident), best_labels, None),
        posterior=fit.posterior,
        functions=function_report.report_functions(
            config.functions, matrix, index_classes(stated, classes), known_indices, fit
        ),
    )


def index_classes(labels: pa.Array, classes: list[str]) -> ClassIndices:
    """Return the index of each label's class, or ABSTAIN, shape `[rows]`."""
    indices = pc.index_in(labels, value_set=pa.array(classes, pa.string()))
    return np.asarray(pc.fill_null(indices, ABSTAIN), np.int64)


def explain_unlabelled(
    config: Label, classes: list[str], posterior: NDArray[np.float64]
) -> list[Doubt]:
    """Explain why rows have no label, and guess the class with most votes, if there is one.

    Args:
        config: The recipe's section.
        classes: The columns of `posterior`.
        posterior: Of the rows without a label, shape `[rows, classes]`.
    """
    nothing_known = "no function knows one" if config.functions else "no label"
    doubts = []
    for row, is_unique in zip(posterior, label_model.has_unique_best(posterior), strict=True):
        votes = [(share, name) for share, name in zip(row, classes, strict=True) if share > 0]
        ranked = sorted(votes, key=lambda vote: (-vote[0], vote[1]))
        shares = ", ".join(f"{name} {share:.2f}" for share, name in ranked[:MAX_GUESSES])
        reason = f"functions are not sure: {shares}" if ranked else nothing_known
        doubts.append(Doubt(reason, ranked[0][1] if is_unique else ""))
    return doubts


def explain_issues(labelled: pa.Table, issues: Sequence[LabelIssue]) -> list[Doubt]:
    """Explain which label each suspicious row has, and which it may have."""
    labels = labelled["label"].to_pylist()
    return [
        Doubt(
            f"labelled {labels[issue.row]}, looks like {issue.suggested_label}",
            issue.suggested_label,
        )
        for issue in issues
    ]


def relabel_rows(labelled: pa.Table, issues: Sequence[LabelIssue]) -> pa.Table:
    """Replace the labels that look wrong, their sources and their confidences."""
    in_row_order = sorted(issues, key=lambda issue: issue.row)
    rows_to_replace = {issue.row for issue in issues}
    is_replaced = pa.array([row in rows_to_replace for row in range(labelled.num_rows)], pa.bool_())
    replacements = {
        "label": [issue.suggested_label for issue in in_row_order],
        "label_source": [RELABELLED] * len(in_row_order),
        "label_confidence": [issue.probability for issue in in_row_order],
    }
    for name, values in replacements.items():
        new_values = pa.array(values, labelled[name].type)
        column = pc.replace_with_mask(labelled[name], is_replaced, new_values)
        labelled = labelled.set_column(labelled.column_names.index(name), name, column)
    return labelled
