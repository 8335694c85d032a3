"""The same test rows as two models answer them: the model and its baseline, or its champion."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.contracts.gate_verdict import DisagreeingRows, Disagreements
from tasks.problems.base import Predictions, Problem, Targets
from tasks.recipe.gate import ChampionRule
from tasks.recipe.recipe import Recipe
from tasks.rows import table_columns
from tasks.statistics.array_types import Flags, Floats

MIN_ROWS = 16  # fewer rows decide nothing
MAX_EXAMPLES = 5
ALL_ROWS = ""  # the name of the slice that holds all rows


@dataclass(frozen=True)
class PairedPredictions:
    """Test rows as the model and its opponent answer them."""

    ids: list[str]
    targets: Targets
    model: Predictions
    opponent: Predictions
    excluded_rows: int = 0  # rows of the test split that the opponent was trained on


# Slice → its rows. A slice is `column=value`, or ALL_ROWS.
PairsBySlice = Mapping[str, PairedPredictions]


def pair_with_baseline(problem: Problem, predictions: pa.Table) -> PairedPredictions:
    """Pair the model's predictions with those of the baseline, on all rows."""
    by_model = problem.read_predictions(predictions)
    return PairedPredictions(
        predictions["id"].to_pylist(),
        problem.targets(predictions),
        by_model["model"],
        by_model["baseline"],
    )


def pair_with_champion(
    problem: Problem, predictions: pa.Table, champion_answers: Floats, mask: Flags, excluded: int
) -> PairedPredictions:
    """Pair the model's predictions with the champion's, on the rows of a mask.

    Args:
        problem: The model's problem.
        predictions: What the evaluation wrote, sorted by id.
        champion_answers: What the champion answers to the same rows, `[rows, width]`.
        mask: The rows to compare, `[rows]`.
        excluded: How many rows were left out because the champion knows them.
    """
    table = predictions.filter(pa.array(mask))
    targets = problem.targets(table)
    return PairedPredictions(
        table["id"].to_pylist(),
        targets,
        problem.read_predictions(table)["model"],
        problem.compact_predictions(targets, champion_answers[mask]),
        excluded,
    )


def build_slice_masks(recipe: Recipe, test: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Return the rows of each slice that a rule compares by, as `column=value` → `[rows]`."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for column in columns_to_compare_by(recipe):
        cells = table_columns.get_column(test, column, "gate: by").to_pylist()
        for value in sorted(set(cells), key=str):
            masks[f"{column}={value}"] = np.array([cell == value for cell in cells])
    return masks


def columns_to_compare_by(recipe: Recipe) -> list[str]:
    """Return the columns that rules name as `by`, each once, in the order of the rules."""
    columns: list[str] = []
    for rule in recipe.gate:
        if isinstance(rule, ChampionRule) and rule.by and rule.by not in columns:
            columns.append(rule.by)
    return columns


def find_disagreements(problem: Problem, pair: PairedPredictions) -> Disagreements | None:
    """Return the rows on which only one of the two models is right.

    None if answers are neither right nor wrong, or if there are too few rows to compare.
    """
    if len(pair.ids) < MIN_ROWS:
        return None
    model_right = problem.is_correct(pair.targets, pair.model)
    champion_right = problem.is_correct(pair.targets, pair.opponent)
    if model_right is None or champion_right is None:
        return None
    return Disagreements(
        only_model_right=list_rows(pair.ids, model_right & ~champion_right),
        only_champion_right=list_rows(pair.ids, champion_right & ~model_right),
    )


def list_rows(ids: list[str], mask: Flags) -> DisagreeingRows:
    """Count the rows of a mask, and name some of them."""
    examples = [ids[row] for row in np.flatnonzero(mask)[:MAX_EXAMPLES]]
    return DisagreeingRows(rows=int(mask.sum()), examples=examples)
