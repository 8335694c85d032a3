"""What a label says, by the problem: one class, several of them, or a number; and which strata its row counts to in reports."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.core.errors import StageError

EMPTY_LABEL_SET = (
    "[]"  # a row that has none of the labels, where an empty cell is a row that nobody has labelled
)
INVALID_LABELS = {
    "multilabel": "labels that cannot be read: write them as a|b, as a list of names, or [] for none of them",
    "regression": "targets that are no finite numbers: correct them in the source, or leave the cells empty to have their rows set aside",
}


def parse_label(problem: str, label: Any) -> Any:
    """A label as its problem has it: a name, a sorted list of names, or a number. Raises ValueError where it is none."""
    if problem == "regression":
        if not math.isfinite(number := float(label)):
            raise ValueError
        return number
    if problem == "multilabel":
        names = (
            json.loads(label)
            if isinstance(label, str) and label.startswith("[")
            else label.split("|")
            if isinstance(label, str)
            else label
        )
        if not all(isinstance(name, str) and name.strip() and "|" not in name for name in names):
            raise ValueError
        return sorted({name.strip() for name in names})
    return label


def parse_labels(problem: str, labels: Sequence[Any], ids: Sequence[Any]) -> list[Any]:
    """All labels so; one that is missing stays None. Raises Failure with the rows of those that cannot be read."""
    found, bad = [], []
    for label, name in zip(labels, ids, strict=True):
        try:
            found.append(None if label is None else parse_label(problem, label))
        except (TypeError, ValueError):
            bad.append(f"{name} ({str(label)[:40]!r})")
    if bad:
        raise StageError(
            f"{len(bad)} row{'s' if len(bad) > 1 else ''}, {', '.join(bad[:5])}{', …' if len(bad) > 5 else ''}, have {INVALID_LABELS[problem]}."
        )
    return found


def format_label(problem: str, label: Any) -> str | None:
    """A label as it is written, in one way for equal ones."""
    return (
        ("|".join(label) or EMPTY_LABEL_SET)
        if problem == "multilabel" and label is not None
        else label
        if label is None
        else str(label)
    )


def assign_strata(problem: str, labels: Sequence[Any]) -> list[list[str]]:
    """The strata of each row: its class, its labels, or the fifth of all targets that its own is in."""
    if problem == "regression":
        found = np.array([float(label) for label in labels])
        names, at = split_into_quintiles(found, found)
        return [[names[index]] for index in at]
    return [parse_label(problem, label) if problem == "multilabel" else [label] for label in labels]


def split_into_quintiles(of: Any, numbers: Any) -> tuple[list[str], Any]:
    """The names of five ranges that hold as many of the numbers `of` each, and the range of each of `numbers`."""
    return split_into_ranges(
        np.unique(np.quantile(of, [0.2, 0.4, 0.6, 0.8])) if len(of) else [], numbers
    )


def split_into_ranges(edges: Any, numbers: Any) -> tuple[list[str], Any]:
    """The names of the ranges between edges, each with the edge above it, and the range of each number."""
    told = [f"{edge:.4g}" for edge in edges]
    names = [
        f"{low} to {high}" if low and high else f"over {low}" if low else f"up to {high}"
        for low, high in zip(["", *told], [*told, ""], strict=True)
    ]
    return names, np.searchsorted(edges, numbers)
