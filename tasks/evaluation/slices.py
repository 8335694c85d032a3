"""Slices: how good the model is on parts of the test split: by columns, by the length of texts, and where a shallow tree finds it to be worst."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import modalities
from tasks.evaluation.base import Case, Found
from tasks.modalities import tabular
from tasks.modalities.tabular import Column
from tasks.recipe.defaults import CONTENT
from tasks.recipe.evaluate import Slice
from tasks.rows import label_values, table_columns
from tasks.statistics import bootstrap
from tasks.statistics.intervals import DIGITS
from tasks.storage import files

LENGTH = "length"  # of the text, unless the data have a column of that name
MISSING = "(missing)"
MOST = 50  # values of a column, the most frequent ones; the others are one slice
DEEP, WORST = 3, 3  # the depth of the tree, and how many of its leaves are told
Rows = NDArray[np.bool_]


def measure(case: Case) -> Found:
    wanted = list(case.recipe.evaluate.slices)
    if CONTENT[case.recipe.modality] == "text" and LENGTH not in [one.column for one in wanted]:
        wanted.append(Slice(column=LENGTH))
    metrics = {
        one.column: {
            name: scores(case, rows, told)
            for name, told, rows in groups(case, one, "evaluate.slices")
        }
        for one in wanted
    }
    errors = case.problem.errors(case.targets, case.said)
    return Found({**metrics, "worst": worst(case, errors)}, {"error": float(errors.mean())})


def scores(case: Case, rows: Rows, told: str) -> dict[str, Any]:
    """The main metrics of some rows, if they are enough to tell. How many are of which class is chance in a slice, so its resamples are not stratified."""
    problem, section, count = case.problem, case.recipe.evaluate, int(rows.sum())
    about = {"rows": count, **({"range": told} if told else {})}
    if count < section.support:
        return about
    chosen = files.read_json(case.model / "model.json")["train"]["metric"]
    names = [
        name
        for name in dict.fromkeys(["accuracy", chosen, "log_loss", "mae"])
        if name in problem.metrics
    ]
    targets, said = case.targets[rows], problem.part(case.said, rows)
    drawn = bootstrap.joined(
        names,
        (
            [problem.values(names, targets, said, weights)]
            for weights in bootstrap.resampled(count, section)
        ),
    )
    return about | problem.intervals(targets, said, section, names, drawn)


def cells_of(case: Case, name: str, key: str) -> list[Any]:
    if (
        name == LENGTH
        and name not in case.test.column_names
        and CONTENT[case.recipe.modality] == "text"
    ):
        return [len(text) for text in case.test["text"].to_pylist()]
    return [row[name] for row in modalities.cells(case.test, [name], key)]


def groups(case: Case, wanted: Slice, key: str) -> Iterator[tuple[str, str, Rows]]:
    """The name of each slice, from what to what its numbers are if that is not its name, and which rows are in it."""
    cells = cells_of(case, wanted.column, key)
    numbers = np.array([tabular.number(cell) for cell in cells])
    known = np.isfinite(numbers)
    column = tabular.fitted_column(wanted.column, cells)
    many = (
        column is not None
        and column["kind"] == "number"
        and len(set(numbers[known].tolist())) > tabular.DISTINCT
    )
    if wanted.edges or (many and not wanted.values):
        names, at = label_values.ranges(
            sorted(wanted.edges or []) or np.unique(np.quantile(numbers[known], [0.25, 0.5, 0.75])),
            numbers,
        )
        for number, name in enumerate(names):
            rows = known & (at == number)
            told = [
                str(cells[row])
                for row in np.flatnonzero(rows)[np.argsort(numbers[rows], kind="stable")]
            ]
            yield (
                (name, "", rows)
                if wanted.edges
                else (f"quarter {number + 1}", f"{told[0]} to {told[-1]}" if told else "none", rows)
            )
    else:
        named = np.array([tabular.category(cell) or MISSING for cell in cells], object)
        known = named != MISSING
        counts = Counter(named[known].tolist())
        common = sorted(sorted(counts), key=lambda name: -counts[name])[:MOST]
        values = (
            [str(tabular.category(value)) for value in wanted.values]
            if wanted.values
            else sorted(common)
        )
        yield from ((value, "", named == value) for value in values)
        if len(counts) > len(common) and not wanted.values:
            yield "(others)", "", known & ~np.isin(named, common)
    if not known.all() and not wanted.values:
        yield MISSING, "", ~known


def worst(case: Case, errors: Any) -> list[dict[str, Any]]:
    """The leaves of a shallow tree on the errors that are worse than all rows by more than two standard errors, as conditions on columns."""
    from sklearn.tree import DecisionTreeRegressor

    support, content = case.recipe.evaluate.support, CONTENT[case.recipe.modality]
    names = [
        name
        for name in case.test.column_names
        if name == "label" or name not in (*table_columns.ROLES, content)
    ]
    cells = {
        name: cells_of(case, name, "")
        for name in [*names, *([LENGTH] if content == "text" and LENGTH not in names else [])]
    }
    columns = [column for name in cells if (column := tabular.fitted_column(name, cells[name]))]
    if not columns or len(errors) < 2 * support:
        return []
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    tree = (
        DecisionTreeRegressor(max_depth=DEEP, min_samples_leaf=support, random_state=0)
        .fit(tabular.encoded(columns, rows), errors)
        .tree_
    )
    leaves = [
        (-float(tree.value[node].item()), said, int(tree.n_node_samples[node]))
        for node, said in paths(tree, [*chain(*map(terms, columns))], 0, {})
    ]
    bad = sorted(
        leaf for leaf in leaves if -leaf[0] > errors.mean() + 2 * errors.std() / np.sqrt(leaf[2])
    )
    return [
        {"condition": said, "rows": count, "error": round(-less, DIGITS)}
        for less, said, count in bad[:WORST]
    ]


def terms(column: Column) -> list[tuple[str, str, float, float]]:
    """What is so on each side of a cut, for each feature that a column becomes; of a number also its unit and origin."""
    name = column["name"]
    number = (
        [(f"{name} up to", f"{name} over", column["spread"], column["mean"])]
        if column["kind"] == "number"
        else []
    )
    values = [
        MISSING if value is None else value
        for value in column.get("values", [None] if column.get("gaps") else [])
    ]
    return [
        *number,
        *((f"{name} is not {value}", f"{name} is {value}", 0.0, 0.0) for value in values),
    ]


def paths(
    tree: Any, asked: list[tuple[str, str, float, float]], node: int, said: dict[str, str]
) -> Iterator[tuple[int, str]]:
    """Each leaf with its condition; of two bounds on a number the nearer one comes later and is told."""
    if tree.children_left[node] < 0:
        yield node, " and ".join(f"{side}{cut}" for side, cut in said.items())
        return
    low, high, unit, origin = asked[tree.feature[node]]
    cut = f" {tree.threshold[node] * unit + origin:.4g}" if unit else ""
    for child, side in ((tree.children_left[node], low), (tree.children_right[node], high)):
        yield from paths(tree, asked, child, said | {side: cut})
