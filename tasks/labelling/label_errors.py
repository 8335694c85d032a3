"""Labels that look wrong, by confident learning (Northcutt et al. 2021)."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import modalities, problems
from tasks.core.errors import StageError
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train

MAX_FOLDS = 5


def rank_by_self_confidence(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Row numbers, the most suspicious first: those whose own label has the least probability. `probabilities` (rows, classes) come from a model that has
    not seen the row. Unlike margins this needs no second class, so a row between two wrong classes is not excused."""
    return np.argsort(probabilities[np.arange(len(labels)), labels], kind="stable")


def find_label_issues(recipe: Recipe, table: pa.Table) -> dict[int, tuple[str, float]]:
    """Rows whose label looks wrong, the most suspicious first, with the label that looks right and its probability, from out-of-fold predictions of the
    modality's baseline. Labels that people gave are never among them."""
    from cleanlab.filter import find_label_issues
    from sklearn.model_selection import StratifiedKFold

    problem = problems.problem_class("classification").from_training_data(Train(), table)
    classes, labels = problem.labels, problem.targets(table)
    folds = min(MAX_FOLDS, int(np.bincount(labels).min()))
    if folds < 2 or len(classes) < 2:
        rare = [name for name, count in zip(classes, np.bincount(labels), strict=True) if count < 2]
        raise StageError(
            f"label.errors needs two classes and two rows of each; of {', '.join(rare) or classes[0]} there are fewer: set it to keep, or add rows."
        )
    rows = modalities.extract_inputs(recipe, table)
    fit = modalities.get_modality(recipe.modality).predict_baseline
    probabilities = np.zeros((len(rows), len(classes)))
    for known, held in StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels):
        probabilities[held] = fit(
            [rows[index] for index in known],
            labels[known],
            [rows[index] for index in held],
            problem,
        )
    wrong = find_label_issues(labels, probabilities, n_jobs=1)
    sources = table["label_source"].to_pylist()
    ranked = [
        int(index)
        for index in rank_by_self_confidence(labels, probabilities)
        if wrong[index] and sources[index] != "people"
    ]
    return {
        index: (classes[probabilities[index].argmax()], float(probabilities[index].max()))
        for index in ranked
    }
