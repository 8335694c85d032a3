"""Small evaluations, and answers of models with a known accuracy, for tests of the gate."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contracts.gate_verdict import ThresholdResult
from tasks.gating import decision
from tasks.gating.champion import Champion
from tasks.gating.decision import Decision, GateInputs
from tasks.gating.pairs import ALL_ROWS, PairedPredictions
from tasks.problems.classification import ClassificationProblem, ClassPredictions
from tasks.recipe.recipe import Recipe
from tasks.statistics.array_types import Ints
from tasks.storage.layout import ModelFolder, StagePaths

BASE: dict[str, Any] = {
    "name": "tiny",
    "modality": "text",
    "ingest": {"kind": "files", "path": "x.csv"},
    "clean": {"rules": []},
}
PROBLEM = ClassificationProblem(["one", "three", "two"])
FLOOR: dict[str, Any] = {"rule": "floor", "metric": "accuracy", "bound": 0.8}
ASPECTS = ("calibration", "slices", "fairness", "robustness", "cost", "privacy")
EVALUATION: dict[str, Any] = {
    "rows": 300,
    "accuracy": {"value": 0.85, "low": 0.81, "high": 0.89},
    "macro_f1": {"value": float("nan"), "low": 0.8, "high": 0.9},
    "classes": {
        "billing": {"f1": {"value": 0.7, "low": 0.6, "high": 0.8}, "recall": 0.6, "support": 40},
        "log.in": {"recall": 0.9, "support": 30},
    },
    "calibration": {"expected_calibration_error": {"value": 0.03, "low": 0.02, "high": 0.06}},
    "slices": {
        "minimum": 20,
        "channel": {
            "email": {"rows": 100, "accuracy": 0.9},
            "phone": {"rows": 100, "accuracy": 0.7},
            "web": {"rows": 100, "accuracy": 0.75},
        },
        "country": {
            "at": {"rows": 2, "range": "1 to 2"},
            "ch": {"rows": 0},
            "de": {"rows": 298, "accuracy": 0.85},
        },
    },
    "fairness": {"sex": {"tpr_gap": {"value": 0.08, "low": 0.02, "high": 0.12}}},
    "robustness": {"typos": {"kept": 0.93}, "case": {"kept": 0.99}},
    "cost": {"bytes": 90_336_883},
    "privacy": {"membership_auc": 0.53},
}

PredictionsByModel = dict[str, ClassPredictions]  # of `model` and its opponents
Trained = tuple[Recipe, StagePaths]  # a model with its recipe, its evaluation and its data


def build_recipe(*rules: dict[str, Any], **sections: Any) -> Recipe:
    """A recipe with these rules after a floor."""
    return Recipe.model_validate({**BASE, "gate": [FLOOR, *rules], **sections})


def with_gate(recipe: Recipe, *rules: dict[str, Any]) -> Recipe:
    """The recipe with other rules."""
    return Recipe.model_validate({**recipe.model_dump(), "gate": list(rules)})


def build_pair(
    labels: Ints, predictions: PredictionsByModel, opponent: str, excluded_rows: int = 0
) -> PairedPredictions:
    ids = [f"r{row}" for row in range(len(labels))]
    return PairedPredictions(
        ids, labels, predictions["model"], predictions[opponent], excluded_rows
    )


def judge_predictions(
    recipe: Recipe, labels: Ints, predictions: PredictionsByModel, comparison_number: int = 1
) -> Decision:
    """The decision on a model with these predictions, beside those of its opponents."""
    metrics: dict[str, Any] = {"rows": len(labels)}
    metrics |= PROBLEM.point_estimates(labels, predictions["model"], ["accuracy", "log_loss"])
    pairs = {
        opponent: {ALL_ROWS: build_pair(labels, predictions, opponent)}
        for opponent in predictions
        if opponent != "model"
    }
    return decision.judge(recipe, GateInputs(metrics, PROBLEM, pairs, comparison_number))


def judge_metrics(recipe: Recipe, metrics: dict[str, Any]) -> Decision:
    """The decision on an evaluation, without opponents."""
    return decision.judge(recipe, GateInputs(metrics, PROBLEM, {}))


def check_bound(
    rule: str, metric: str, bound: float, evaluation: Any = None, **settings: Any
) -> ThresholdResult:
    """What one rule comes to on an evaluation."""
    rules = [
        {"rule": "floor", "metric": "classes.one.recall", "bound": 0.0},
        {"rule": rule, "metric": metric, "bound": bound, **settings},
    ]
    recipe = Recipe.model_validate({**BASE, "gate": rules})
    check = judge_metrics(recipe, EVALUATION if evaluation is None else evaluation).checks[1]
    assert isinstance(check, ThresholdResult)
    return check


def predict_with_accuracy(labels: Ints, accuracy: float, seed: int) -> ClassPredictions:
    """Predictions of which this share is right."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(labels))[: round(len(labels) * (1 - accuracy))]
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + 1) % 3
    return ClassPredictions(predicted, np.where(predicted == labels, 0.1, 2.0))


def judge_accuracies(rows: int, model: float, **opponents: float) -> Decision:
    """The decision on a model of this accuracy, beside opponents of known accuracies."""
    labels = np.arange(rows, dtype=np.int64) % 3
    predictions = {"model": predict_with_accuracy(labels, model, 0)}
    for seed, (name, accuracy) in enumerate(opponents.items(), 1):
        predictions[name] = predict_with_accuracy(labels, accuracy, seed)
    rules = (
        {"rule": "baseline", "metric": "accuracy", "margin": 0.0},
        {"rule": "champion", "metric": "accuracy", "margin": 0.01},
    )
    return judge_predictions(build_recipe(*rules), labels, predictions)


def copy_as_champion(trained: Trained, folder: Path) -> tuple[Recipe, StagePaths, Champion]:
    """Copies of a model's files, and of its model alone as a champion."""
    recipe, paths = trained
    copied = StagePaths(Path(shutil.copytree(paths.root, folder / "data")))
    champion = ModelFolder(Path(shutil.copytree(copied.model.path, folder / "champion")))
    return recipe, copied, Champion(champion, "v1")
