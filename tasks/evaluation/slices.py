"""Slices: how good the model is on parts of the test split: by columns, by the length of texts, and where a shallow tree finds it to be worst."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import modalities
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.modalities import tabular
from tasks.modalities.tabular import FeatureColumn
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.evaluate import Slice
from tasks.rows import label_values, table_columns
from tasks.statistics import bootstrap
from tasks.statistics.intervals import DIGITS
from tasks.storage import files

LENGTH_COLUMN = "length"  # of the text, unless the data have a column of that name
MISSING_VALUE = "(missing)"
MAX_VALUES = 50  # values of a column, the most frequent ones; the others are one slice
MAX_TREE_DEPTH, MAX_WORST_SLICES = (
    3,
    3,
)  # the depth of the tree, and how many of its leaves are told
RowMask = NDArray[np.bool_]


def measure(case: EvaluationContext) -> AspectResult:
    wanted = list(case.recipe.evaluate.slices)
    if CONTENT_COLUMN[case.recipe.modality] == "text" and LENGTH_COLUMN not in [
        one.column for one in wanted
    ]:
        wanted.append(Slice(column=LENGTH_COLUMN))
    metrics = {
        one.column: {
            name: score_rows(case, rows, told)
            for name, told, rows in iterate_slices(case, one, "evaluate.slices")
        }
        for one in wanted
    }
    errors = case.problem.row_errors(case.targets, case.said)
    return AspectResult(
        {**metrics, "worst": find_worst_slices(case, errors)}, {"error": float(errors.mean())}
    )


def score_rows(case: EvaluationContext, rows: RowMask, told: str) -> dict[str, Any]:
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
    targets, said = case.targets[rows], problem.take(case.said, rows)
    drawn = bootstrap.join_metrics(
        names,
        (
            [problem.compute_metrics(names, targets, said, weights)]
            for weights in bootstrap.draw_weights(count, section)
        ),
    )
    return about | problem.metric_intervals(targets, said, section, names, drawn)


def select_column_cells(case: EvaluationContext, name: str, key: str) -> list[Any]:
    if (
        name == LENGTH_COLUMN
        and name not in case.test.column_names
        and CONTENT_COLUMN[case.recipe.modality] == "text"
    ):
        return [len(text) for text in case.test["text"].to_pylist()]
    return [row[name] for row in modalities.select_cells(case.test, [name], key)]


def iterate_slices(
    case: EvaluationContext, wanted: Slice, key: str
) -> Iterator[tuple[str, str, RowMask]]:
    """The name of each slice, from what to what its numbers are if that is not its name, and which rows are in it."""
    cells = select_column_cells(case, wanted.column, key)
    numbers = np.array([tabular.parse_number(cell) for cell in cells])
    known = np.isfinite(numbers)
    column = tabular.infer_column(wanted.column, cells)
    many = (
        column is not None
        and column["kind"] == "number"
        and len(set(numbers[known].tolist())) > tabular.MAX_DISTINCT_CODES
    )
    if wanted.edges or (many and not wanted.values):
        names, at = label_values.split_into_ranges(
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
        named = np.array([tabular.category_name(cell) or MISSING_VALUE for cell in cells], object)
        known = named != MISSING_VALUE
        counts = Counter(named[known].tolist())
        common = sorted(sorted(counts), key=lambda name: -counts[name])[:MAX_VALUES]
        values = (
            [str(tabular.category_name(value)) for value in wanted.values]
            if wanted.values
            else sorted(common)
        )
        yield from ((value, "", named == value) for value in values)
        if len(counts) > len(common) and not wanted.values:
            yield "(others)", "", known & ~np.isin(named, common)
    if not known.all() and not wanted.values:
        yield MISSING_VALUE, "", ~known


def find_worst_slices(case: EvaluationContext, errors: Any) -> list[dict[str, Any]]:
    """The leaves of a shallow tree on the errors that are worse than all rows by more than two standard errors, as conditions on columns."""
    from sklearn.tree import DecisionTreeRegressor

    support, content = case.recipe.evaluate.support, CONTENT_COLUMN[case.recipe.modality]
    names = [
        name
        for name in case.test.column_names
        if name == "label" or name not in (*table_columns.ROLE_COLUMNS, content)
    ]
    cells = {
        name: select_column_cells(case, name, "")
        for name in [
            *names,
            *([LENGTH_COLUMN] if content == "text" and LENGTH_COLUMN not in names else []),
        ]
    }
    columns = [column for name in cells if (column := tabular.infer_column(name, cells[name]))]
    if not columns or len(errors) < 2 * support:
        return []
    rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    tree = (
        DecisionTreeRegressor(max_depth=MAX_TREE_DEPTH, min_samples_leaf=support, random_state=0)
        .fit(tabular.encode_features(columns, rows), errors)
        .tree_
    )
    leaves = [
        (-float(tree.value[node].item()), said, int(tree.n_node_samples[node]))
        for node, said in iterate_leaves(tree, [*chain(*map(describe_cuts, columns))], 0, {})
    ]
    bad = sorted(
        leaf for leaf in leaves if -leaf[0] > errors.mean() + 2 * errors.std() / np.sqrt(leaf[2])
    )
    return [
        {"condition": said, "rows": count, "error": round(-less, DIGITS)}
        for less, said, count in bad[:MAX_WORST_SLICES]
    ]


def describe_cuts(column: FeatureColumn) -> list[tuple[str, str, float, float]]:
    """What is so on each side of a cut, for each feature that a column becomes; of a number also its unit and origin."""
    name = column["name"]
    number = (
        [(f"{name} up to", f"{name} over", column["spread"], column["mean"])]
        if column["kind"] == "number"
        else []
    )
    values = [
        MISSING_VALUE if value is None else value
        for value in column.get("values", [None] if column.get("gaps") else [])
    ]
    return [
        *number,
        *((f"{name} is not {value}", f"{name} is {value}", 0.0, 0.0) for value in values),
    ]


def iterate_leaves(
    tree: Any, asked: list[tuple[str, str, float, float]], node: int, said: dict[str, str]
) -> Iterator[tuple[int, str]]:
    """Each leaf with its condition; of two bounds on a number the nearer one comes later and is told."""
    if tree.children_left[node] < 0:
        yield node, " and ".join(f"{side}{cut}" for side, cut in said.items())
        return
    low, high, unit, origin = asked[tree.feature[node]]
    cut = f" {tree.threshold[node] * unit + origin:.4g}" if unit else ""
    for child, side in ((tree.children_left[node], low), (tree.children_right[node], high)):
        yield from iterate_leaves(tree, asked, child, said | {side: cut})
