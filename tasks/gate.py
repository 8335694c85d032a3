"""Gate: may this model be promoted? Decides from the evaluation alone, and says why.

    python -m tasks.gate support-desk

Writes gate.json. As a DVC stage it judges what content can judge: floors and the baseline. The rule on the champion, which is not content but
the state of production, is judged again at promotion, by `judge` with the champion's answers on the same rows:

    python -m tasks.gate support-desk --champion FOLDER VERSION --out FILE
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import comparison, files, modalities, problems, resolve
from tasks.problems import Problem, Said, Targets
from tasks.recipe import LOWER_IS_BETTER, Baseline, Champion, Floor, Recipe
from tasks.step import Failure, main

PROMOTE, REJECT, INCONCLUSIVE = "promote", "reject", "inconclusive"


def gate(name: str) -> None:
    folder = files.folder_of(name)
    files.write_json(folder / "gate.json", decide(resolve.read(name), folder, None, None))


def decide(recipe: Recipe, folder: Path, champion: Path | None, version: str | None) -> dict[str, Any]:
    """The verdict on the evaluation in `folder`, against the champion whose files lie in `champion`, if there is one."""
    metrics = files.read_json(folder / "evaluation" / "metrics.json")
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet")
    test = files.read_table(folder / "split" / "test.parquet")
    same(metrics, predictions, test, folder)
    problem = problems.of_model(files.read_json(folder / "model" / "model.json"))
    targets, said = problem.targets(predictions), problem.read(predictions)
    if champion is not None:
        predictor = modalities.predictor(champion)
        if predictor.problem.NAME != problem.NAME:
            raise Failure(f"gate: the champion is a model for {predictor.problem.NAME}, and this one for {problem.NAME}: promote it to a channel of its own.")
        answers = modalities.predict(predictor, modalities.rows(recipe, test.sort_by("id")))
        said["champion"] = problem.said(targets, problem.aligned(answers, predictor.labels))
    verdict = judge(recipe, problem, targets, said)
    return {**verdict, "champion": version, "model_sha256": metrics["model_sha256"], "test_sha256": metrics["test_sha256"], "rows": len(targets)}


def same(metrics: dict[str, Any], predictions: pa.Table, test: pa.Table, folder: Path) -> None:
    """Refuse to judge anything but the evaluation of this model on this test split."""
    if metrics["test_sha256"] != files.sha256(folder / "split" / "test.parquet") or sorted(predictions["id"].to_pylist()) != sorted(test["id"].to_pylist()):
        raise Failure("gate: the test split changed since the evaluation: run `dvc repro`, which evaluates again.")
    if metrics["model_sha256"] != files.hashes(folder / "model"):
        raise Failure("gate: the model's files are not those that were evaluated: run `dvc repro`, which evaluates again.")


def judge(recipe: Recipe, problem: Problem, targets: Targets, said: dict[str, Said]) -> dict[str, Any]:
    """Every rule's outcome and the verdict: one failure rejects, one open question is inconclusive, and only all rules met promote.

    Rules on the same opponent share one error rate (Holm 1979).
    """
    checks: list[dict[str, Any]] = [{}] * len(recipe.gate)
    for number, rule in enumerate(recipe.gate):
        if isinstance(rule, Floor):
            checks[number] = floor(recipe, rule, problem, targets, said["model"])
    for kind in (Baseline, Champion):
        family = {number: versus(recipe, rule, problem, targets, said) for number, rule in enumerate(recipe.gate) if isinstance(rule, kind)}
        adjusted = comparison.holm([check["p"] for check in family.values() if "p" in check])
        for number, check in family.items():
            checks[number] = decided(recipe, recipe.gate[number], check, adjusted.pop(0), len(targets)) if "p" in check else check
    checks = [{**rule.model_dump(), **check} for rule, check in zip(recipe.gate, checks, strict=True)]
    outcomes = [check["outcome"] for check in checks]
    verdict = REJECT if "fail" in outcomes else INCONCLUSIVE if "open" in outcomes else PROMOTE
    against = [check["reason"] for check in checks if check["outcome"] in ("fail", "open")]
    return {"verdict": verdict, "reason": " ".join(against) or "Every rule is met.", "checks": checks}


def floor(recipe: Recipe, rule: Floor, problem: Problem, targets: Targets, model: Said) -> dict[str, Any]:
    """A floor on the metric, or for a loss a ceiling."""
    value = problem.points(targets, model)[rule.metric]
    low, high = problems.bounds(problem.samples(rule.metric, targets, [model], recipe.evaluate)[:, 0], recipe.evaluate.confidence)
    lower = rule.metric in LOWER_IS_BETTER
    worst, best = (high, low) if lower else (low, high)
    if rule.on == "point":
        worst = best = value

    def met(number: float) -> bool:
        return number <= rule.bound if lower else number >= rule.bound

    outcome = "pass" if met(worst) else "open" if met(best) else "fail"
    wanted = f"at {'most' if lower else 'least'} {rule.bound:g}"
    told = {
        "pass": f"{rule.metric} {value:.4f} is {wanted}.",
        "open": f"{rule.metric} {value:.4f} must be {wanted} over its whole interval {low:.4f} to {high:.4f}: more test rows would decide.",
        "fail": f"{rule.metric} {value:.4f} must be {wanted}.",
    }
    return checked(outcome, told[outcome], value, low, high)


def versus(recipe: Recipe, rule: Baseline | Champion, problem: Problem, targets: Targets, said: dict[str, Said]) -> dict[str, Any]:
    """Model against another on the same rows, by the paired bootstrap of the difference; positive is better. `p` is that of no difference beyond the bound."""
    other = said.get(rule.rule)
    if other is None:
        return {
            "outcome": "none",
            "value": None,
            "low": None,
            "high": None,
            "reason": "There is no champion here; promotion compares with the one in production.",
        }
    sign = -1 if rule.metric in LOWER_IS_BETTER else 1
    points = [problem.points(targets, one)[rule.metric] for one in (said["model"], other)]
    drawn = problem.samples(rule.metric, targets, [said["model"], other], recipe.evaluate)
    differences = sign * (drawn[:, 0] - drawn[:, 1])
    low, high = problems.bounds(differences, recipe.evaluate.confidence)
    value = sign * (points[0] - points[1])
    check = {"value": value, "low": low, "high": high, "error": float(differences.std()), "points": points}
    check["p"] = comparison.bootstrapped(value, differences, rule.bound)
    right, other_right = problem.right(targets, said["model"]), problem.right(targets, other)
    if rule.metric.endswith("accuracy") and right is not None and other_right is not None:
        only, lost = int((right & ~other_right).sum()), int((other_right & ~right).sum())
        exact = comparison.mcnemar(only, lost)
        check |= {"only_model_right": only, "only_other_right": lost, "mcnemar": round(exact, 6)}
        if rule.bound == 0:
            check["p"] = exact
    return check


def decided(recipe: Recipe, rule: Any, check: dict[str, Any], p: float, rows: int) -> dict[str, Any]:
    """A comparison with its outcome: p, adjusted, held against alpha; and where it is open, what would decide it."""
    alpha = (1 - recipe.evaluate.confidence) / 2
    value, error, points = check["value"], check.pop("error"), check.pop("points")
    outcome = "pass" if p <= alpha else "fail" if check["high"] <= rule.bound else "open"
    wanted = f"{'better' if rule.bound >= 0 else 'no worse'} than the {rule.rule} by more than {rule.margin:g}"
    shown = f"{rule.metric} {points[0]:.4f} against {points[1]:.4f} of the {rule.rule} (difference {value:+.4f}, interval {check['low']:+.4f} to {check['high']:+.4f}, p {p:.4f})"
    if outcome == "pass":
        return checked(outcome, f"{shown} is {wanted}.", **check, p_adjusted=p, alpha=alpha)
    needed = comparison.rows_needed(rows, value - rule.bound, error, alpha)
    smallest = rule.bound + comparison.detectable(error, alpha)
    reason = f"{shown} must be {wanted}."
    if outcome == "open":
        reason = f"{shown} must be {wanted}, which {rows} test rows do not decide: with 80 % power they show differences from {smallest:+.4f}"
        reason += f"; for one of {value:+.4f} about {needed:,} rows would be needed." if needed else ", and this one points the other way."
    return checked(outcome, reason, **check, p_adjusted=p, alpha=alpha, detectable=smallest, rows_needed=needed)


def checked(outcome: str, reason: str, value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    if not all(math.isfinite(number) for number in (value, low, high)):
        return {"outcome": "fail", "value": None, "low": None, "high": None, "reason": f"The value is not a number ({value}), so nothing is known: {reason}"}
    numbers = {"value": value, "low": low, "high": high, **more}
    return {"outcome": outcome, **{name: round(number, 6) if isinstance(number, float) else number for name, number in numbers.items()}, "reason": reason}


def against_champion(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.gate")
    parser.add_argument("recipe")
    parser.add_argument("--champion", nargs=2, metavar=("FOLDER", "VERSION"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    folder, version = arguments.champion
    files.write_json(arguments.out, decide(resolve.read(arguments.recipe), files.folder_of(arguments.recipe), Path(folder), version))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(lambda name: against_champion(sys.argv[1:]), [sys.argv[1]])
    main(gate)
