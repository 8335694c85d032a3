"""Gate: may this model be promoted? Decides from the evaluation alone, and says why.

    python -m tasks.gate support-desk

Writes gate.json. As a DVC stage it judges what content can judge: floors, ceilings and the baseline. The rules on the champion, which is not content but
the state of production, are judged at promotion, with the champion's answers on the same rows:

    python -m tasks.gate support-desk FOLDER VERSION LOOK FILE

LOOK says which comparison with this champion it is: they all share one error rate.
"""

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import bounds, comparison, files, latency, modalities, problems, resolve, unseen
from tasks.problems import Floats, Problem, Said, Targets
from tasks.recipe import LOWER_IS_BETTER, Baseline, Bounded, Champion, Latency, Recipe
from tasks.step import Failure, main

PROMOTE, REJECT, INCONCLUSIVE = "promote", "reject", "inconclusive"
LEAST = 16  # rows: of fewer, no bound and no comparison is believed
FEW = 10  # rows that tell two models apart, below which the bootstrap is too sure
EXAMPLES = 5
NONE = {
    "outcome": "none",
    "value": None,
    "low": None,
    "high": None,
    "reason": "There is no champion here; promotion compares with the one in production.",
}
NOTHING = {"outcome": "fail", "reason": "The rule gave no result, so nothing is known of it."}


class Match(NamedTuple):
    """The same rows as answered by the model and by another one."""

    ids: list[str]
    targets: Targets
    model: Said
    other: Said
    left_out: int = 0  # rows that are not new to the other one


Matches = Mapping[str, Mapping[str, Match]]  # opponent → "" for all rows, or column=value → match


def gate(
    name: str,
    champion: str | None = None,
    version: str | None = None,
    look: str = "1",
    out: str | None = None,
) -> None:
    folder = files.folder_of(name)
    checked(folder)
    verdict = decide(
        resolve.read(name), folder, Path(champion) if champion else None, version, int(look)
    )
    files.write_json(Path(out) if out else folder / "gate.json", verdict)


def checked(folder: Path) -> None:
    """Refuse data that the checks did not let pass, or did not see."""
    for suite in ("raw", "ready"):
        passed = folder / "checks" / suite / "passed.json"
        if not passed.is_file():
            raise Failure(
                f"gate: {passed} does not exist, so the check {suite} did not pass: run `dvc repro`, which says what failed."
            )
    seen = files.digest(
        [files.sha256(folder / "split" / f"{side}.parquet") for side in ("train", "val", "test")]
    )
    if files.read_json(passed).get("snapshot") != seen:
        raise Failure(
            f"gate: the split is not the one that {passed} is about: run `dvc repro`, which checks it."
        )


def decide(
    recipe: Recipe, folder: Path, champion: Path | None, version: str | None, look: int = 1
) -> dict[str, Any]:
    """The verdict on the evaluation in `folder`, against the champion whose files lie in `champion`, if there is one."""
    metrics = files.read_json(folder / "evaluation" / "metrics.json")
    predictions = files.read_table(folder / "evaluation" / "predictions.parquet").sort_by("id")
    test = files.read_table(folder / "split" / "test.parquet").sort_by("id")
    same(metrics, predictions, test, folder)
    problem = problems.of_model(files.read_json(folder / "model" / "model.json"))
    matches = {"baseline": {"": match(problem, predictions)}}
    timed: dict[int, Floats] = {}
    about: dict[str, Any] = {}
    if champion is not None:
        predictor = modalities.predictor(champion)
        if predictor.problem.NAME != problem.NAME:
            raise Failure(
                f"gate: the champion is a model for {predictor.problem.NAME}, and this one for {problem.NAME}: promote it to a channel of its own."
            )
        rows, new = (
            modalities.rows(recipe, test),
            unseen.rows(test, folder, champion, recipe.modality),
        )
        answers = problem.aligned(modalities.predict(predictor, rows), predictor.labels)
        groups = {"": new, **{name: new & mask for name, mask in slices(recipe, test).items()}}
        matches["champion"] = {
            name: match(problem, predictions, answers, mask, int((~new).sum()))
            for name, mask in groups.items()
        }
        models = modalities.predictor(folder / "model", 1), modalities.predictor(champion, 1)
        timed = {
            rule.batch: latency.measured(models, rows, rule.batch)
            for rule in recipe.gate
            if isinstance(rule, Latency)
        }
        about = {
            "look": look,
            "left_out": matches["champion"][""].left_out,
            "changed": changed(problem, matches["champion"][""]),
        }
    verdict = judge(recipe, metrics, problem, matches, look, timed)
    return {
        **verdict,
        **about,
        "champion": version,
        "model_sha256": metrics["model_sha256"],
        "test_sha256": metrics["test_sha256"],
        "rows": len(test),
    }


def same(metrics: dict[str, Any], predictions: pa.Table, test: pa.Table, folder: Path) -> None:
    """Refuse to judge anything but the evaluation of this model on this test split."""
    if metrics.get("test_sha256") != files.sha256(folder / "split" / "test.parquet") or predictions[
        "id"
    ].to_pylist() != sorted(test["id"].to_pylist()):
        raise Failure(
            "gate: the test split changed since the evaluation: run `dvc repro`, which evaluates again."
        )
    if metrics.get("model_sha256") != files.hashes(folder / "model"):
        raise Failure(
            "gate: the model's files are not those that were evaluated: run `dvc repro`, which evaluates again."
        )


def match(
    problem: Problem,
    predictions: pa.Table,
    answers: Floats | None = None,
    mask: Any = True,
    left_out: int = 0,
) -> Match:
    """The rows in `mask` as answered by the model and, with these answers to all rows, by another one, or else by the baseline."""
    there = np.full(len(predictions), mask)
    table = predictions.filter(pa.array(there))
    ids = table["id"].to_pylist()
    if len(ids) < LEAST:  # which may be none
        return Match(ids, None, None, None, left_out)  # type: ignore[arg-type]
    targets, said = problem.targets(table), problem.read(table)
    return Match(
        ids,
        targets,
        said["model"],
        said["baseline"] if answers is None else problem.said(targets, answers[there]),
        left_out,
    )


def slices(recipe: Recipe, test: pa.Table) -> dict[str, NDArray[np.bool_]]:
    """Which rows have each value of the columns by which rules compare, by column=value."""
    found: dict[str, NDArray[np.bool_]] = {}
    for column in dict.fromkeys(
        rule.by for rule in recipe.gate if isinstance(rule, Champion) and rule.by
    ):
        values = files.column(test, column, "gate: by").to_pylist()
        found |= {
            f"{column}={one}": np.array([value == one for value in values])
            for one in sorted(set(values), key=str)
        }
    return found


def changed(problem: Problem, match: Match) -> dict[str, Any] | None:
    """The rows on which only the model or only the champion is right: how many, and some of their ids."""
    right = (
        None
        if match.targets is None
        else [problem.right(match.targets, said) for said in (match.model, match.other)]
    )
    if right is None or right[0] is None or right[1] is None:
        return None
    apart = {"only_model_right": right[0] & ~right[1], "only_champion_right": right[1] & ~right[0]}
    return {
        name: {
            "rows": int(rows.sum()),
            "such_as": [match.ids[row] for row in np.flatnonzero(rows)[:EXAMPLES]],
        }
        for name, rows in apart.items()
    }


def judge(
    recipe: Recipe,
    metrics: Any,
    problem: Problem,
    matches: Matches,
    look: int = 1,
    timed: Mapping[int, Floats] | None = None,
) -> dict[str, Any]:
    """Every rule's outcome and the verdict: one failure rejects, one open question is inconclusive, and only all rules met promote.

    Rules on the same opponent share one error rate (Holm 1979), and so do all looks at the same champion.
    """
    found: list[list[dict[str, Any]]] = [
        [] for _ in recipe.gate
    ]  # of each rule all that it says: of several slices or numbers the worst counts
    alpha = (1 - recipe.evaluate.confidence) / 2
    for number, rule in enumerate(recipe.gate):
        if isinstance(rule, Bounded):
            found[number] = [bounds.held(rule, *one) for one in bounds.at(metrics, rule.metric)]
        elif isinstance(rule, Latency):
            found[number] = [
                latency.judged(rule, (timed or {}).get(rule.batch), recipe.evaluate.confidence)
            ]
    for kind, rate in ((Baseline, alpha), (Champion, comparison.spent(alpha, look))):
        family = [
            (at, check)
            for at, rule in enumerate(recipe.gate)
            if isinstance(rule, kind)
            for check in versus(recipe, rule, problem, matches)
        ]
        adjusted = comparison.holm([check["p"] for _, check in family if "p" in check])
        for number, check in family:
            found[number].append(
                decided(recipe.gate[number], check, adjusted.pop(0), rate, look)
                if "p" in check
                else check
            )
    checks = []
    for rule, said in zip(recipe.gate, found, strict=True):
        check = {
            "metric": None,
            **rule.model_dump(exclude={"reason"}),
            "why": rule.reason,
            **bounds.worst(said or [NOTHING]),
        }
        if check["outcome"] in ("fail", "open"):
            why = f" The rule is there because: {rule.reason}." if rule.reason else ""
            check["reason"] = (f"{rule.name}: " if rule.name else "") + check["reason"] + why
        checks.append(check)
    against = {
        outcome: " ".join(check["reason"] for check in checks if check["outcome"] == outcome)
        for outcome in ("fail", "open")
    }
    verdict = REJECT if against["fail"] else INCONCLUSIVE if against["open"] else PROMOTE
    reason = " ".join(filter(None, against.values())) or "Every rule is met."
    if (rows := metrics.get("rows", 0)) < LEAST and verdict == PROMOTE:
        verdict, reason = (
            INCONCLUSIVE,
            f"Every rule is met, but on {rows} test rows, which decide nothing: at least {LEAST} are needed.",
        )
    return {"verdict": verdict, "reason": reason, "checks": checks}


def versus(
    recipe: Recipe, rule: Baseline | Champion, problem: Problem, matches: Matches
) -> Iterator[dict[str, Any]]:
    """The model against the rule's opponent on all rows, or on each slice that the rule names."""
    if rule.rule == "champion" and "champion" not in matches:
        yield dict(NONE)
    by = getattr(rule, "by", None)
    for name, one in matches.get(rule.rule, {}).items():
        about = {"path": name, "before": f"On {name}: " if name else "", "after": ""}
        if one.left_out:
            about["after"] = (
                f" {one.left_out} test rows were left out, as the champion was trained on them or on rows like them."
            )
        if not (name.startswith(f"{by}=") if by else name == ""):
            continue
        if len(one.ids) < LEAST:
            few = f"{about['before']}{len(one.ids)} test rows are too few to compare with the {rule.rule}: at least {LEAST} are needed.{about['after']}"
            yield {**NONE, "outcome": "open", "path": name, "reason": few}
        else:
            yield {**about, **compared(recipe, rule, problem, one)}


def compared(
    recipe: Recipe, rule: Baseline | Champion, problem: Problem, match: Match
) -> dict[str, Any]:
    """Two models on the same rows, by the paired bootstrap of the difference; positive is better. `p` is that of no difference beyond the bound."""
    sign = -1 if rule.metric in LOWER_IS_BETTER else 1
    points = [
        problem.points(match.targets, one, [rule.metric])[rule.metric]
        for one in (match.model, match.other)
    ]
    drawn = problem.samples(rule.metric, match.targets, [match.model, match.other], recipe.evaluate)
    differences = sign * (drawn[:, 0] - drawn[:, 1])
    low, high = problems.bounds(differences, recipe.evaluate.confidence)
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
        comparison.bootstrapped(value, differences, rule.bound) if math.isfinite(value) else 1.0
    )
    right, other_right = (
        problem.right(match.targets, match.model),
        problem.right(match.targets, match.other),
    )
    if right is not None and other_right is not None:
        only, lost = int((right & ~other_right).sum()), int((other_right & ~right).sum())
        shares, exact = (
            rule.metric in ("accuracy", "subset_accuracy"),
            comparison.mcnemar(only, lost),
        )
        check |= {"only_model_right": only, "only_other_right": lost, "mcnemar": round(exact, 6)}
        if shares and rule.bound == 0:
            check["p"] = exact
        elif rule.bound < 0 < rule.margin < 1 and (shares or only + lost < FEW):
            check["p"] = max(
                check["p"], comparison.noninferior(only, lost, len(match.ids), rule.margin)
            )
            check["error"] = max(
                check["error"], math.sqrt(rule.margin / len(match.ids))
            )  # as large as it is where the model is worse by the margin
    return check


def decided(rule: Any, check: dict[str, Any], p: float, alpha: float, look: int) -> dict[str, Any]:
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
    smallest = rule.bound + comparison.detectable(error, alpha)
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
            {**NONE, "path": check["path"]},
        )
    rounded = {
        name: round(number, 6) if isinstance(number, float) else number
        for name, number in numbers.items()
    }
    return {**rounded, "outcome": outcome, "reason": f"{reason}.{after}"}


if __name__ == "__main__":
    if len(sys.argv) == 6:
        main(lambda name: gate(name, *sys.argv[2:]), sys.argv[1:2])
    main(gate)
