"""Fairness: how far apart the groups of a sensitive column are, by fairlearn's MetricFrame: in accuracy, and in how often a class is given at all
(selection rate), where it is true (true-positive rate) and where it is not (false-positive rate).

Of two classes the second in the alphabet is the one that is given, as in scikit-learn; of more, and of labels, each is held against the rest and the gap is
the largest of any. A rate of fewer rows than the support counts in no gap.
"""

from typing import Any

import numpy as np

from tasks import problems
from tasks.evaluation import Case, Found
from tasks.evaluation.slices import Rows, groups
from tasks.problems import DIGITS, Floats
from tasks.recipe import Slice


def measure(case: Case) -> Found | None:
    found = {name: column(case, name) for name in case.recipe.evaluate.sensitive}
    return Found({name: metrics for name, (metrics, _) in found.items()}, {name: of for name, (_, of) in found.items()}) if found else None


def column(case: Case, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The gaps between groups and the rates of each group, and the class of which each rate is."""
    section = case.recipe.evaluate
    parts = {group: rows for group, _, rows in groups(case, Slice(column=name), "evaluate.sensitive") if rows.any()}
    told: dict[str, dict[str, Any]] = {group: {"rows": int(rows.sum())} for group, rows in parts.items()}
    first, each, there, given, labels = asked(case)
    kinds = [first, *(rate for rate in ("selection_rate", "tpr", "fpr") for _ in labels)]
    part = np.column_stack([each, given, given & there, given & ~there])
    whole = np.column_stack([np.ones_like(each), np.ones_like(given), there, ~there])
    enough = np.stack([whole[rows].sum(0) >= section.support for rows in parts.values()])

    def spread(weights: Floats) -> Floats:
        """The gaps of each resample."""
        with np.errstate(invalid="ignore"):
            shares = np.stack([(weights[:, rows] @ part[rows]) / (weights[:, rows] @ whole[rows]) for rows in parts.values()])
        return gaps(np.where(enough[:, None], shares, np.nan))

    drawn = np.concatenate([spread(weights) for weights in case.problem.resampled(case.targets, section)])
    values = np.where(enough, framed(parts, each, there, given), np.nan)
    found = gaps(values[:, None])[0]
    metrics, of = dict[str, Any](), dict[str, str]()
    for rate in dict.fromkeys(kinds):
        at = [place for place, kind in enumerate(kinds) if kind == rate]
        known = [place for place in at if np.isfinite(found[place])]
        if known:  # there are enough rows in two groups, for some class
            widest = max(known, key=lambda place: float(found[place]))
            metrics[f"{rate}_gap"] = problems.centred(float(found[widest]), np.fmax.reduce(drawn[:, at], axis=1), section)
            of[rate] = labels[widest - at[0]] if widest else ""
            for group, value in zip(parts, values[:, widest], strict=True):
                told[group] |= {rate: round(float(value), DIGITS)} if np.isfinite(value) else {}
    return {**metrics, "groups": told}, of


def asked(case: Case) -> tuple[str, Floats, Any, Any, list[str]]:
    """Of each row how right or wrong its answer is, which classes it has and which it was given, and their names."""
    problem, errors = case.problem, case.problem.errors(case.targets, case.said)
    binary = problem.NAME == "classification" and len(problem.labels) == 2
    first = ("error", errors) if problem.right(case.targets, case.said) is None else ("accuracy", 1 - errors)
    there, given = problem.flags(case.targets, case.said) or (np.zeros((len(errors), 0), bool),) * 2
    classes = slice(int(binary), len(problem.labels) if there.size else 0)
    return *first, there[:, classes], given[:, classes], problem.labels[classes]


def gaps(values: Floats) -> Floats:
    """The largest less the smallest of rates (groups, resamples, rates), of those groups that have it; NaN where fewer than two have."""
    found: Floats = np.fmax.reduce(values) - np.fmin.reduce(values)
    return np.where(np.isfinite(values).sum(0) < 2, np.nan, found)


def framed(parts: dict[str, Rows], each: Floats, there: Any, given: Any) -> Floats:
    """The rates of all rows in each group, shape (groups, rates)."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, mean_prediction, selection_rate, true_positive_rate  # type: ignore[import-untyped]

    names = np.select(list(parts.values()), [np.array(name) for name in parts], "")  # each row is in one of them
    rates = {
        "selection_rate": lambda true, said: selection_rate(true, said, pos_label=1),
        "tpr": lambda true, said: true_positive_rate(true, said, pos_label=1) if any(true) else np.nan,
        "fpr": lambda true, said: np.nan if all(true) else false_positive_rate(true, said, pos_label=1),
    }

    def frame(metrics: Any, true: Any, said: Any) -> Any:
        return MetricFrame(metrics=metrics, y_true=true, y_pred=said, sensitive_features=names).by_group.loc[list(parts)]

    found = [frame(rates, there[:, at].astype(int), given[:, at].astype(int)) for at in range(there.shape[1])]
    columns = [frame({"first": mean_prediction}, each, each)["first"], *(one[rate] for rate in rates for one in found)]
    return np.column_stack([np.asarray(values, np.float64) for values in columns])
