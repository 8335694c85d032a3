"""Resolve labels."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.labelling import label_model
from tasks.labelling.label_model import VoteMatrix
from tasks.recipe.label import Label


def first_non_null(said: list[tuple[str, pa.Array]]) -> tuple[pa.Array, pa.Array]:
    """The first answer for each row, and whose it is."""
    whose = [
        pc.if_else(pc.is_valid(answer), name, pa.scalar(None, pa.string())) for name, answer in said
    ]
    return pc.coalesce(*(answer for _, answer in said)).cast(pa.string()), pc.coalesce(*whose).cast(
        pa.string()
    )


def label_by_votes(
    section: Label, classes: list[str], cast: list[pa.Array], stated: pa.Array, known: pa.Array
) -> tuple[pa.Array, NDArray[np.float64], list[Any]]:
    """The label of each row on which the functions that are not trusted agree enough, the classes' posterior, and the report on all functions."""

    def numbers(labels: pa.Array) -> VoteMatrix:
        at = pc.fill_null(pc.index_in(labels, value_set=pa.array(classes, pa.string())), -1)
        return np.asarray(at, np.int64)

    matrix = (
        np.stack([numbers(vote) for vote in cast], axis=1)
        if cast
        else np.zeros((len(known), 0), int)
    )
    voters = [number for number, function in enumerate(section.functions) if not function.trusted]
    fitted = label_model.LABEL_MODELS[section.model](
        matrix[:, voters], len(classes), numbers(known)
    )
    best, sure = fitted.decide(section.confidence)
    decided = pc.if_else(pa.array(sure), pa.array(classes, pa.string()).take(pa.array(best)), None)
    return (
        decided,
        fitted.posterior,
        label_model.report_functions(
            section.functions, matrix, numbers(stated), numbers(known), fitted
        ),
    )


def explain_unlabelled(
    section: Label, classes: list[str], posterior: NDArray[np.float64]
) -> tuple[list[str], list[str]]:
    """Why rows have no label, and the one that they may have: the class with most votes, if there is one."""
    reasons, guesses = [], []
    for row, single in zip(posterior, label_model.has_unique_best(posterior), strict=True):
        ranked = sorted(
            (-share, name) for share, name in zip(row, classes, strict=True) if share > 0
        )
        shown = ", ".join(f"{name} {-share:.2f}" for share, name in ranked[:3])
        reasons.append(
            f"functions are not sure: {shown}"
            if ranked
            else "no function knows one"
            if section.functions
            else "no label"
        )
        guesses.append(ranked[0][1] if single else "")
    return reasons, guesses


def relabel_rows(rows: pa.Table, right: dict[int, tuple[str, float]]) -> pa.Table:
    wrong = pa.array([index in right for index in range(rows.num_rows)], pa.bool_())
    labels, shares = (
        zip(*(right[index] for index in sorted(right)), strict=True) if right else ((), ())
    )
    for name, values in (
        ("label", labels),
        ("label_source", ["relabelled"] * len(right)),
        ("label_confidence", shares),
    ):
        column = pc.replace_with_mask(rows[name], wrong, pa.array(values, rows[name].type))
        rows = rows.set_column(rows.column_names.index(name), name, column)
    return rows


def check_allowed_classes(table: pa.Table, labels: list[list[str]], section: Label) -> None:
    """Raises Failure for a label that is not among those that the recipe lists."""
    for names, row in zip(labels, table["id"].to_pylist(), strict=True):
        for label_ in sorted(set(names) - set(section.classes or names)):
            count = sum(label_ in names for names in labels)
            told = f"label {label_!r} of {count} row(s), first {row}, is not among label.classes{suggest_nearest(label_, section.classes or [])}"
            raise StageError(f"{told}: correct the source, or add it to the list in the recipe.")
