"""Comparisons."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.problems.base import Predictions, Problem, Targets
from tasks.recipe.gate import BaselineRule, ChampionRule
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.recipe import Recipe
from tasks.rows import table_columns
from tasks.statistics import comparison, intervals
from tasks.statistics.array_types import Floats

MIN_ROWS = 16  # rows: of fewer, no bound and no comparison is believed
MIN_DISCORDANT = 10  # rows that tell two models apart, below which the bootstrap is too sure
MAX_EXAMPLES = 5
SKIPPED_RESULT = {
    "outcome": "none",
    "value": None,
    "low": None,
    "high": None,
    "reason": "There is no champion here; promotion compares with the one in production.",
}


class PairedPredictions(NamedTuple):
    """The same rows as answered by the model and by another one."""

    ids: list[str]
    targets: Targets
    model: Predictions
    other: Predictions
    left_out: int = 0  # rows that are not new to the other one


PairsByOpponent = Mapping[
    str, Mapping[str, PairedPredictions]
]  # opponent → "" for all rows, or column=value → match


def pair_predictions(
    problem: Problem,
    predictions: pa.Table,
    answers: Floats | None = None,
    mask: Any = True,
    left_out: int = 0,
) -> PairedPredictions:
    """The rows in `mask` as answered by the model and, with these answers to all rows, by another one, or else by the baseline."""
    there = np.full(len(predictions), mask)
    table = predictions.filter(pa.array(there))
    ids = table["id"].to_pylist()
    if len(ids) < MIN_ROWS:  # which may be none
        return PairedPredictions(ids, None, None, None, left_out)  # type: ignore[arg-type]
    targets, said = problem.targets(table), problem.read_predictions(table)
    return PairedPredictions(
        ids,
        targets,
        said["model"],
        said["baseline"]
        if answers is None
        else problem.compact_predictions(targets, answers[there]),
        left_out,
    )


def build_slice_masks(recipe: Recipe, test: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Which rows have each value of the columns by which rules compare, by column=value."""
    found: dict[str, NDArray[np.bool_]] = {}
    for column in dict.fromkeys(
        rule.by for rule in recipe.gate if isinstance(rule, ChampionRule) and rule.by
    ):
        values = table_columns.get_column(test, column, "gate: by").to_pylist()
        found |= {
            f"{column}={one}": np.array([value == one for value in values])
            for one in sorted(set(values), key=str)
        }
    return found


def find_disagreements(problem: Problem, match: PairedPredictions) -> dict[str, Any] | None:
    """The rows on which only the model or only the champion is right: how many, and some of their ids."""
    right = (
        None
        if match.targets is None
        else [problem.is_correct(match.targets, said) for said in (match.model, match.other)]
    )
    if right is None or right[0] is None or right[1] is None:
        return None
    apart = {"only_model_right": right[0] & ~right[1], "only_champion_right": right[1] & ~right[0]}
    return {
        name: {
            "rows": int(rows.sum()),
            "such_as": [match.ids[row] for row in np.flatnonzero(rows)[:MAX_EXAMPLES]],
        }
        for name, rows in apart.items()
    }


def compare_with_opponent(
    recipe: Recipe, rule: BaselineRule | ChampionRule, problem: Problem, matches: PairsByOpponent
) -> Iterator[dict[str, Any]]:
    """The model against the rule's opponent on all rows, or on each slice that the rule names."""
    if rule.rule == "champion" and "champion" not in matches:
        yield dict(SKIPPED_RESULT)
    by = getattr(rule, "by", None)
    for name, one in matches.get(rule.rule, {}).items():
        about = {"path": name, "before": f"On {name}: " if name else "", "after": ""}
        if one.left_out:
            about["after"] = (
                f" {one.left_out} test rows were left out, as the champion was trained on them or on rows like them."
            )
        if not (name.startswith(f"{by}=") if by else name == ""):
            continue
        if len(one.ids) < MIN_ROWS:
            few = f"{about['before']}{len(one.ids)} test rows are too few to compare with the {rule.rule}: at least {MIN_ROWS} are needed.{about['after']}"
            yield {**SKIPPED_RESULT, "outcome": "open", "path": name, "reason": few}
        else:
            yield {**about, **paired_comparison(recipe, rule, problem, one)}


def paired_comparison(
    recipe: Recipe, rule: BaselineRule | ChampionRule, problem: Problem, match: PairedPredictions
) -> dict[str, Any]:
    """Two models on the same rows, by the paired bootstrap of the difference; positive is better. `p` is that of no difference beyond the bound."""
    sign = -1 if rule.metric in LOWER_IS_BETTER else 1
    points = [
        problem.point_estimates(match.targets, one, [rule.metric])[rule.metric]
        for one in (match.model, match.other)
    ]
    drawn = problem.bootstrap_metric(
        rule.metric, match.targets, [match.model, match.other], recipe.evaluate
    )
    differences = sign * (drawn[:, 0] - drawn[:, 1])
    low, high = intervals.percentile_bounds(differences, recipe.evaluate.confidence)
    value = sign * (points[0] - points[1])
    check: dict[str, Any] = {
        "value": value,
        "low": low,
        "high": high,
        "error": float(differences.std()),
        "points": points,
        "rows": len(match.ids),
    }
    check["p"] = (
        comparison.bootstrap_p_value(value, differences, rule.bound)
        if math.isfinite(value)
        else 1.0
    )
    right, other_right = (
        problem.is_correct(match.targets, match.model),
        problem.is_correct(match.targets, match.other),
    )
    if right is not None and other_right is not None:
        only, lost = int((right & ~other_right).sum()), int((other_right & ~right).sum())
        shares, exact = (
            rule.metric in ("accuracy", "subset_accuracy"),
            comparison.mcnemar_p_value(only, lost),
        )
        check |= {"only_model_right": only, "only_other_right": lost, "mcnemar": round(exact, 6)}
        if shares and rule.bound == 0:
            check["p"] = exact
        elif rule.bound < 0 < rule.margin < 1 and (shares or only + lost < MIN_DISCORDANT):
            check["p"] = max(
                check["p"],
                comparison.noninferiority_p_value(only, lost, len(match.ids), rule.margin),
            )
            check["error"] = max(
                check["error"], math.sqrt(rule.margin / len(match.ids))
            )  # as large as it is where the model is worse by the margin
    return check


def decide_comparison(
    rule: Any, check: dict[str, Any], p: float, alpha: float, look: int
) -> dict[str, Any]:
    """A comparison with its outcome: p, adjusted, held against alpha; and where it is open, what would decide it."""
    value, error, points, before, after = (
        check.pop(name) for name in ("value", "error", "points", "before", "after")
    )
    low, high, rows = check.pop("low"), check.pop("high"), check["rows"]
    outcome = "pass" if p <= alpha else "fail" if high <= rule.bound else "open"
    wanted = f"{'better' if rule.bound >= 0 else 'no worse'} than the {rule.rule} by more than {rule.margin:g}"
    shown = f"{before}{rule.metric} {points[0]:.4f} against {points[1]:.4f} of the {rule.rule} (difference {value:+.4f}, interval {low:+.4f} to {high:+.4f}"
    shown += f", p {p:.4f} at error rate {alpha:.2g}{f' of look {look} at it' if rule.rule == 'champion' else ''})"
    needed = comparison.rows_needed(rows, value - rule.bound, error, alpha)
    smallest = rule.bound + comparison.detectable_difference(error, alpha)
    reason = f"{shown} {'is' if outcome == 'pass' else 'must be'} {wanted}"
    if outcome == "open":
        reason += f", which {rows} test rows do not decide: with 80 % power they show differences from {smallest:+.4f}"
        reason += (
            f"; for one of {value:+.4f} about {needed:,} rows would be needed"
            if needed
            else ", and this one points the other way"
        )
    numbers = {
        "value": value,
        "low": low,
        "high": high,
        **check,
        "p_adjusted": p,
        "alpha": alpha,
        "detectable": smallest,
        "rows_needed": needed,
    }
    if not all(math.isfinite(number) for number in (value, low, high)):
        outcome, reason, numbers = (
            "fail",
            f"The value is not a number ({value}), so nothing is known: {reason}",
            {**SKIPPED_RESULT, "path": check["path"]},
        )
    rounded = {
        name: round(number, 6) if isinstance(number, float) else number
        for name, number in numbers.items()
    }
    return {**rounded, "outcome": outcome, "reason": f"{reason}.{after}"}
