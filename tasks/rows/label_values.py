"""Values of labels, and the strata that they put a row into.

A value is one class, several labels, or a number, as the problem says.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.core.errors import StageError

# A row that has none of the labels. An empty cell is a row that nobody has labelled.
EMPTY_LABEL_SET = "[]"
LABEL_SEPARATOR = "|"
QUINTILES = (0.2, 0.4, 0.6, 0.8)
MAX_EXAMPLES = 5
MAX_SHOWN_CHARACTERS = 40  # of a label in a message
INVALID_LABELS = {
    "multilabel": (
        "labels that cannot be read: write them as a|b, as a list of names, or [] for none of them"
    ),
    "regression": (
        "targets that are not finite numbers: correct them in the source, "
        "or leave the cells empty to have their rows rejected"
    ),
}


def parse_label(problem: str, label: Any) -> Any:
    """Read a label: a name, a sorted list of names, or a number, as the problem has it.

    Raises:
        ValueError: It is none.
        TypeError: It is none.
    """
    if problem == "regression":
        number = float(label)
        if not math.isfinite(number):
            raise ValueError
        return number
    if problem == "multilabel":
        return parse_label_set(label)
    return label


def parse_label_set(label: Any) -> list[str]:
    """Read `a|b`, a JSON list or a list of names as the sorted list of names.

    Raises:
        ValueError: A name is blank or holds the separator, or the list is not JSON.
        TypeError: It is no list.
    """
    if not isinstance(label, str):
        names = label
    elif label.startswith("["):
        names = json.loads(label)
    else:
        names = label.split(LABEL_SEPARATOR)
    if not all(is_label_name(name) for name in names):
        raise ValueError
    return sorted({name.strip() for name in names})


def is_label_name(name: Any) -> bool:
    """Tell whether a label of several may have this name."""
    return isinstance(name, str) and bool(name.strip()) and LABEL_SEPARATOR not in name


def parse_labels(problem: str, labels: Sequence[Any], ids: Sequence[Any]) -> list[Any]:
    """Read all labels; a missing one stays None.

    Raises:
        StageError: Some cannot be read; the message names their rows.
    """
    parsed = []
    unreadable = []
    for label, row_id in zip(labels, ids, strict=True):
        try:
            parsed.append(None if label is None else parse_label(problem, label))
        except (TypeError, ValueError):
            unreadable.append(f"{row_id} ({str(label)[:MAX_SHOWN_CHARACTERS]!r})")
    if unreadable:
        raise StageError(describe_unreadable_labels(unreadable, problem))
    return parsed


def describe_unreadable_labels(rows: Sequence[str], problem: str) -> str:
    """Name the rows whose labels cannot be read."""
    count = f"{len(rows)} row" if len(rows) == 1 else f"{len(rows)} rows"
    examples = ", ".join(rows[:MAX_EXAMPLES])
    more = ", …" if len(rows) > MAX_EXAMPLES else ""
    return f"{count}, {examples}{more}, have {INVALID_LABELS[problem]}."


def format_label(problem: str, label: Any) -> str | None:
    """Write a label; equal labels are written alike."""
    if label is None:
        return None
    if problem == "multilabel":
        return LABEL_SEPARATOR.join(label) or EMPTY_LABEL_SET
    return str(label)


def assign_strata(problem: str, labels: Sequence[Any]) -> list[list[str]]:
    """List each row's strata: its class, its labels, or the quintile of its target."""
    if problem == "multilabel":
        return [parse_label_set(label) for label in labels]
    if problem != "regression":
        return [[label] for label in labels]
    targets = np.array([float(label) for label in labels])
    names, quintile = split_into_quintiles(targets, targets)
    return [[names[index]] for index in quintile]


def split_into_quintiles(
    reference: NDArray[np.float64], numbers: ArrayLike
) -> tuple[list[str], NDArray[np.intp]]:
    """Divide numbers at the quintiles of `reference`.

    Returns:
        The names of the ranges, and the index of each number's range.
    """
    if not len(reference):
        return split_into_ranges([], numbers)
    return split_into_ranges(np.unique(np.quantile(reference, QUINTILES)), numbers)


def split_into_ranges(edges: ArrayLike, numbers: ArrayLike) -> tuple[list[str], NDArray[np.intp]]:
    """Divide numbers at the edges; a range includes the edge above it.

    Returns:
        The names of the ranges, and the index of each number's range.
    """
    edges = np.asarray(edges)
    shown = [f"{edge:.4g}" for edge in edges]
    names = [
        describe_range(low, high) for low, high in zip(["", *shown], [*shown, ""], strict=True)
    ]
    return names, np.searchsorted(edges, numbers)


def describe_range(low: str, high: str) -> str:
    """Name the range between two edges, of which one or both may be missing ('')."""
    if not low:
        return f"up to {high}"
    if not high:
        return f"over {low}"
    return f"{low} to {high}"
