"""Labels that look wrong, by confident learning (Northcutt, Jiang and Chuang 2021)."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import modalities, problems
from tasks.core.errors import StageError
from tasks.problems.base import Problem
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train

MAX_FOLDS = 5


@dataclass(frozen=True)
class LabelIssue:
    """A row whose label looks wrong."""

    row: int
    suggested_label: str
    probability: float  # of the suggested label


def rank_by_self_confidence(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Order the rows by the probability of their own label, the smallest first.

    Unlike margins this needs no second class, so a row between two wrong classes ranks high too.

    Args:
        labels: Class indices, shape `[rows]`.
        probabilities: By a model that has not seen the row, shape `[rows, classes]`.
    """
    self_confidence = probabilities[np.arange(len(labels)), labels]
    return np.argsort(self_confidence, kind="stable")


def find_label_issues(recipe: Recipe, table: pa.Table) -> list[LabelIssue]:
    """Find the rows whose label looks wrong, the most suspicious first.

    Labels that people gave are trusted.

    Raises:
        StageError: There are too few classes, or rows of a class, for out-of-fold predictions.
    """
    from cleanlab import filter as cleanlab_filter

    problem = problems.problem_class("classification").from_training_data(Train(), table)
    labels = problem.targets(table)
    probabilities = predict_out_of_fold(recipe, table, problem, labels)
    is_wrong = cleanlab_filter.find_label_issues(labels, probabilities, n_jobs=1)
    sources = table["label_source"].to_pylist()
    issues = []
    for row in rank_by_self_confidence(labels, probabilities).tolist():
        if is_wrong[row] and sources[row] != "people":
            best = int(probabilities[row].argmax())
            issues.append(LabelIssue(row, problem.labels[best], float(probabilities[row, best])))
    return issues


def predict_out_of_fold(
    recipe: Recipe, table: pa.Table, problem: Problem, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Predict each row with a baseline of the modality that was fitted without it.

    Returns:
        Probabilities, shape `[rows, classes]`.
    """
    from sklearn.model_selection import StratifiedKFold

    n_folds = count_folds(problem.labels, labels)
    inputs = modalities.extract_inputs(recipe, table)
    predict_baseline = modalities.get_modality(recipe.modality).predict_baseline
    probabilities = np.zeros((len(inputs), len(problem.labels)))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    for fitted, held_out in folds.split(labels, labels):
        probabilities[held_out] = predict_baseline(
            [inputs[row] for row in fitted],
            labels[fitted],
            [inputs[row] for row in held_out],
            problem,
        )
    return probabilities


def count_folds(classes: list[str], labels: NDArray[np.int64]) -> int:
    """Return the number of folds: as many as the rarest class has rows, at most MAX_FOLDS.

    Raises:
        StageError: Two folds, or two classes, are not possible.
    """
    counts = np.bincount(labels)
    n_folds = min(MAX_FOLDS, int(counts.min()))
    if n_folds >= 2 and len(classes) >= 2:
        return n_folds
    rare = [name for name, count in zip(classes, counts, strict=True) if count < 2]
    raise StageError(
        "label.errors needs two classes and two rows of each; "
        f"there are fewer of {', '.join(rare) or classes[0]}: set it to keep, or add rows."
    )
