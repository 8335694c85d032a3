"""Fairness: how far apart the groups of a sensitive column are, by fairlearn's measures: in accuracy, and in how often a class is given at all (selection
rate), where it is true (true-positive rate) and where it is not (false-positive rate).

Of two classes the second in the alphabet is the one that is given, as in scikit-learn; of more, and of labels, each is held against the rest and the gap is
the largest of any. A rate of fewer rows than the support counts in no gap.
"""

from typing import Any

import numpy as np

from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.slices import iterate_slices
from tasks.recipe.evaluate import Slice
from tasks.statistics import intervals
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import DIGITS


def measure(case: EvaluationContext) -> AspectResult | None:
    found = {name: compare_groups(case, name) for name in case.recipe.evaluate.sensitive}
    return (
        AspectResult(
            {name: metrics for name, (metrics, _) in found.items()},
            {name: of for name, (_, of) in found.items()},
        )
        if found
        else None
    )


def compare_groups(case: EvaluationContext, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The gaps between groups and the rates of each group, and the class of which each rate is."""
    section = case.recipe.evaluate
    parts = {
        group: rows
        for group, _, rows in iterate_slices(case, Slice(column=name), "evaluate.sensitive")
        if rows.any()
    }
    told: dict[str, dict[str, Any]] = {
        group: {"rows": int(rows.sum())} for group, rows in parts.items()
    }
    first, each, there, given, labels = collect_outcomes(case)
    kinds = [first, *(rate for rate in ("selection_rate", "tpr", "fpr") for _ in labels)]
    part = np.column_stack([each, given, given & there, given & ~there])
    whole = np.column_stack([np.ones_like(each), np.ones_like(given), there, ~there])
    enough = np.stack([whole[rows].sum(0) >= section.support for rows in parts.values()])

    def shares(weights: Floats) -> Floats:
        """The rates of the rows so often as weights have them, shape (groups, resamples, rates)."""
        with np.errstate(invalid="ignore"):
            found = np.stack(
                [
                    (weights[:, rows] @ part[rows]) / (weights[:, rows] @ whole[rows])
                    for rows in parts.values()
                ]
            )
        return np.where(enough[:, None], found, np.nan)

    drawn = np.concatenate(
        [
            compute_gaps(shares(weights))
            for weights in case.problem.bootstrap_weights(case.targets, section)
        ]
    )
    values = shares(np.ones((1, len(each))))
    found, values = compute_gaps(values)[0], values[:, 0]
    metrics, of = dict[str, Any](), dict[str, str]()
    for rate in dict.fromkeys(kinds):
        at = [place for place, kind in enumerate(kinds) if kind == rate]
        known = [place for place in at if np.isfinite(found[place])]
        if known:  # there are enough rows in two groups, for some class
            widest = max(known, key=lambda place: float(found[place]))
            metrics[f"{rate}_gap"] = intervals.bias_corrected_interval(
                float(found[widest]), np.fmax.reduce(drawn[:, at], axis=1), section
            )
            of[rate] = labels[widest - at[0]] if widest else ""
            for group, value in zip(parts, values[:, widest], strict=True):
                told[group] |= {rate: round(float(value), DIGITS)} if np.isfinite(value) else {}
    return {**metrics, "groups": told}, of


def collect_outcomes(case: EvaluationContext) -> tuple[str, Floats, Any, Any, list[str]]:
    """Of each row how right or wrong its answer is, which classes it has and which it was given, and their names."""
    problem, errors = case.problem, case.problem.row_errors(case.targets, case.said)
    binary = problem.NAME == "classification" and len(problem.labels) == 2
    first = (
        ("error", errors)
        if problem.is_correct(case.targets, case.said) is None
        else ("accuracy", 1 - errors)
    )
    there, given = (
        problem.class_flags(case.targets, case.said) or (np.zeros((len(errors), 0), bool),) * 2
    )
    classes = slice(int(binary), len(problem.labels) if there.size else 0)
    return *first, there[:, classes], given[:, classes], problem.labels[classes]


def compute_gaps(values: Floats) -> Floats:
    """The largest less the smallest of rates (groups, resamples, rates), of those groups that have it; NaN where fewer than two have."""
    found: Floats = np.fmax.reduce(values) - np.fmin.reduce(values)
    return np.where(np.isfinite(values).sum(0) < 2, np.nan, found)
