"""The gate's verdicts on small known answers, its refusals, and that it fails closed: each thing that it needs is taken away in turn."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import evaluate, gate, train
from tasks.core.errors import ConfigError, StageError
from tasks.gating import decision, latency, preconditions, unseen_rows
from tasks.gating.comparisons import PairedPredictions
from tasks.problems.classification import ClassificationProblem, ClassPredictions
from tasks.recipe import metric_names
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.gate import LatencyRule
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.rows import rejected_rows
from tasks.statistics import intervals
from tasks.statistics.array_types import Ints
from tasks.storage import files, hashing
from tasks.storage.layout import StagePaths
from tasks.training import export
from tests import tiny

BASE = {
    "name": "tiny",
    "modality": "text",
    "ingest": {"kind": "files", "path": "x.csv"},
    "clean": {"rules": []},
}
THREE = ClassificationProblem(["one", "three", "two"])
FLOOR = {"rule": "floor", "metric": "accuracy", "bound": 0.8}
ASPECTS = ("calibration", "slices", "fairness", "robustness", "cost", "privacy")
FOUND: dict[str, Any] = {
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


@pytest.fixture
def aspects(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation has these aspects, whichever there are."""
    monkeypatch.setattr(metric_names, "ASPECTS", ASPECTS)


def recipe(*rules: Any) -> Recipe:
    return Recipe.model_validate({**BASE, "gate": [FLOOR, *rules]})


def match(labels: Ints, said: dict[str, Any], who: str, left_out: int = 0) -> PairedPredictions:
    return PairedPredictions(
        [f"r{row}" for row in range(len(labels))], labels, said["model"], said[who], left_out
    )


def judge(made: Recipe, labels: Ints, said: dict[str, Any], look: int = 1) -> dict[str, Any]:
    """The verdict on a model with these answers, beside those of its opponents."""
    metrics = {
        "rows": len(labels),
        **THREE.point_estimates(labels, said["model"], ["accuracy", "log_loss"]),
    }
    return decision.judge(
        made,
        metrics,
        THREE,
        {who: {"": match(labels, said, who)} for who in said if who != "model"},
        look,
    )


def bounded(
    rule: str, metric: str, bound: float, found: Any = FOUND, **more: Any
) -> dict[str, Any]:
    """What a rule alone says of an evaluation."""
    rules = [
        {"rule": "floor", "metric": "classes.one.recall", "bound": 0.0},
        {"rule": rule, "metric": metric, "bound": bound, **more},
    ]
    return dict(
        decision.judge(Recipe.model_validate({**BASE, "gate": rules}), found, THREE, {})["checks"][
            1
        ]
    )


def answers(labels: Ints, accuracy: float, seed: int) -> ClassPredictions:
    """Answers of which this share is right."""
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(labels))[: round(len(labels) * (1 - accuracy))]
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + 1) % 3
    return ClassPredictions(predicted, np.where(predicted == labels, 0.1, 2.0))


def judged(rows: int, model: float, **others: float) -> dict[str, Any]:
    labels = np.arange(rows, dtype=np.int64) % 3
    said = {
        "model": answers(labels, model, 0),
        **{
            name: answers(labels, share, seed)
            for seed, (name, share) in enumerate(others.items(), 1)
        },
    }
    rules = [
        {"rule": name, "metric": "accuracy", "margin": 0.01 if name == "champion" else 0.0}
        for name in ("baseline", "champion")
    ]
    return judge(recipe(*rules), labels, said)


def test_a_better_model_is_promoted_and_a_worse_one_rejected_with_the_numbers() -> None:
    assert judged(3000, 0.95, baseline=0.85, champion=0.9)["verdict"] == "promote"
    worse = judged(3000, 0.85, baseline=0.8, champion=0.95)
    assert worse["verdict"] == "reject"
    assert "accuracy 0.8500 against 0.9500 of the champion (difference -0.1000" in str(
        worse["reason"]
    )


def test_too_few_rows_are_inconclusive_and_promote_nothing() -> None:
    assert judged(30, 0.9, baseline=0.5, champion=0.9)["verdict"] == "inconclusive"


def test_below_the_floor_nothing_else_counts() -> None:
    assert judged(3000, 0.7, baseline=0.1, champion=0.2)["verdict"] == "reject"


def test_no_champion_is_said_and_a_missing_baseline_does_not_pass_silently() -> None:
    assert judged(3000, 0.95, baseline=0.85)["checks"][2]["outcome"] == "none"
    missing = judged(3000, 0.95, champion=0.5)
    assert missing["verdict"] == "reject"
    assert missing["reason"] == "The rule gave no result, so nothing is known of it."


def test_a_loss_that_is_not_a_number_fails_closed() -> None:
    labels = np.arange(300, dtype=np.int64) % 3
    broken = ClassPredictions(labels, np.full(300, np.nan))
    for rule in (
        {"rule": "ceiling", "metric": "log_loss", "bound": 1.0},
        {"rule": "baseline", "metric": "log_loss"},
    ):
        verdict = judge(recipe(rule), labels, {"model": broken, "baseline": broken})
        assert (verdict["verdict"], verdict["checks"][1]["value"]) == ("reject", None)
        assert "not a number" in verdict["reason"]


def test_intervals_cover_and_repeat() -> None:
    labels = np.arange(600, dtype=np.int64) % 3
    said = answers(labels, 0.9, 0)
    drawn = [THREE.bootstrap_metric("accuracy", labels, [said], Evaluate())[:, 0] for _ in range(2)]
    assert (drawn[0] == drawn[1]).all()
    low, high = intervals.percentile_bounds(drawn[0], 0.95)
    assert low < 0.9 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.9 * 0.1 / 600) ** 0.5, rel=0.15)


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    labels = np.arange(200, dtype=np.int64) % 3
    said = answers(labels, 0.6, 3)
    points = THREE.point_estimates(labels, said)
    assert points["accuracy"] == pytest.approx(accuracy_score(labels, said.predicted))
    assert points["macro_f1"] == pytest.approx(f1_score(labels, said.predicted, average="macro"))


def test_the_champion_itself_is_not_worse_with_no_margin_and_not_better() -> None:
    labels = np.arange(300, dtype=np.int64) % 3
    one = answers(labels, 0.9, 0)
    for require, verdict in (("not_worse", "promote"), ("better", "reject")):
        rule = {"rule": "champion", "metric": "macro_f1", "require": require, "margin": 0.0}
        check = judge(recipe(rule), labels, {"model": one, "champion": one})
        assert check["verdict"] == verdict
        assert "by more than 0" in check["checks"][1]["reason"]
        assert "e-3" not in check["checks"][1]["reason"]


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("rule", "metric", "bound", "outcome", "told"),
    [
        ("floor", "accuracy", 0.85, "pass", "accuracy 0.8500 is at least 0.85."),
        (
            "floor",
            "accuracy",
            0.9,
            "fail",
            "accuracy 0.8500 must be at least 0.9. It is 0.0500 too low, about 15 more of 300 rows right would reach it.",
        ),
        (
            "floor",
            "classes.billing.f1",
            0.8,
            "fail",
            "classes.billing.f1 0.7000 must be at least 0.8. It is 0.1000 too low.",
        ),
        (
            "floor",
            "classes.log.in.recall",
            0.8,
            "pass",
            "classes.log.in.recall 0.9000 is at least 0.8.",
        ),
        (
            "floor",
            "slices.channel.email.accuracy",
            0.8,
            "pass",
            "slices.channel.email.accuracy 0.9000 is at least 0.8.",
        ),
        (
            "ceiling",
            "fairness.sex.tpr_gap",
            0.05,
            "fail",
            "fairness.sex.tpr_gap 0.0800 must be at most 0.05. It is 0.0300 too high.",
        ),
        ("ceiling", "calibration.expected_calibration_error", 0.05, "pass", "is at most 0.05."),
        (
            "floor",
            "robustness.typos.kept",
            0.95,
            "fail",
            "robustness.typos.kept 0.9300 must be at least 0.95. It is 0.0200 too low.",
        ),
        (
            "ceiling",
            "privacy.membership_auc",
            0.55,
            "pass",
            "privacy.membership_auc 0.5300 is at most 0.55.",
        ),
        (
            "ceiling",
            "cost.bytes",
            50_000_000,
            "fail",
            "cost.bytes 90,336,883 must be at most 50,000,000. It is 40,336,883 too high.",
        ),
        ("floor", "rows", 200, "pass", "rows 300 is at least 200."),
    ],
)
def test_a_bound_is_on_any_number_of_the_evaluation_and_says_by_how_much_it_is_missed(
    rule: str, metric: str, bound: float, outcome: str, told: str
) -> None:
    check = bounded(rule, metric, bound)
    assert (check["outcome"], check["rule"], check["bound"]) == (outcome, rule, bound)
    assert check["reason"].endswith(told)


@pytest.mark.usefixtures("aspects")
def test_of_all_slices_the_worst_is_named_and_which_others_fail() -> None:
    check = bounded("floor", "slices.channel.*.accuracy", 0.8)
    assert (check["outcome"], check["path"], check["value"]) == (
        "fail",
        "slices.channel.phone.accuracy",
        0.7,
    )
    assert check["reason"].startswith(
        "slices.channel.phone.accuracy 0.7000 must be at least 0.8. It is 0.1000 too low, about 10 more of 100 rows right"
    )
    assert check["reason"].endswith(
        "It is the worst of 3; the rule is not met by slices.channel.web.accuracy (0.7500) either."
    )
    assert bounded("floor", "slices.channel.*.accuracy", 0.7)["outcome"] == "pass"
    assert bounded("floor", "robustness.*.kept", 0.9)["path"] == "robustness.typos.kept"


@pytest.mark.usefixtures("aspects")
def test_on_the_interval_the_bound_that_is_worse_decides_and_the_question_is_open_where_only_the_other_meets_it() -> (
    None
):
    told = {
        bound: bounded("floor", "accuracy", bound, on="interval")["outcome"]
        for bound in (0.81, 0.82, 0.89, 0.9)
    }
    assert told == {0.81: "pass", 0.82: "open", 0.89: "open", 0.9: "fail"}
    path = "calibration.expected_calibration_error"
    assert [
        bounded("ceiling", path, bound, on="interval")["outcome"]
        for bound in (0.06, 0.05, 0.02, 0.01)
    ] == ["pass", "open", "open", "fail"]
    check = bounded("floor", "robustness.typos.kept", 0.5, on="interval")
    assert (check["outcome"], check["reason"]) == (
        "fail",
        "robustness.typos.kept 0.9300 has no interval to be held against the bound: write `on: point`.",
    )


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("metric", "outcome", "told"),
    [
        ("robustness.typo.kept", "fail", "robustness has no 'typo' (did you mean typos?), so nothing is known of robustness.typo.kept: it has typos, case."),
        ("slices.channel.email.acuracy", "fail", "slices.channel.email has no 'acuracy' (did you mean accuracy?), so nothing"),
        ("slices.country.at.accuracy", "open", "slices.country.at.accuracy has 2 rows, too few to be measured: more test rows would decide."),
        ("slices.country.ch.accuracy", "fail", "slices.country.ch.accuracy has no rows, so nothing is known of it."),
        ("slices.country.*.accuracy", "fail", "slices.country.ch.accuracy has no rows, so nothing is known of it. It is the worst of 3; the rule is not met by slices.country.at"),
        ("slices.team.*.accuracy", "fail", "slices has no 'team', so nothing is known of slices.team.*.accuracy: it has minimum, channel, country."),
        ("macro_f1", "fail", "macro_f1 is not a number, so nothing is known of it: it is nan."),
        ("classes.billing", "fail", "classes.billing is not a number, so nothing is known of it: it has f1, recall, support."),
    ],
)  # fmt: skip
def test_what_is_missing_empty_or_no_number_does_not_pass_and_says_what_is_there(
    metric: str, outcome: str, told: str
) -> None:
    check = bounded("floor", metric, 0.0)
    assert check["outcome"] == outcome
    assert check["reason"].startswith(told)


@pytest.mark.usefixtures("aspects")
def test_an_aspect_that_the_evaluation_lost_fails_its_rules() -> None:
    for aspect, metric in {
        "fairness": "sex.tpr_gap",
        "calibration": "expected_calibration_error",
        "cost": "bytes",
        "privacy": "membership_auc",
    }.items():
        check = bounded(
            "ceiling",
            f"{aspect}.{metric}",
            1e9,
            {name: value for name, value in FOUND.items() if name != aspect},
        )
        assert check["outcome"] == "fail"
        assert check["reason"].startswith(f"The evaluation has no {aspect!r}")
        assert (
            f"so nothing is known of {aspect}.{metric}: it has rows, accuracy, " in check["reason"]
        )
        assert bounded("ceiling", f"{aspect}.{metric}", 1e9)["outcome"] == "pass"


def test_a_rule_that_fails_says_its_name_and_why_it_is_there() -> None:
    check = bounded(
        "floor", "classes.billing.f1", 0.8, name="billing", reason="a wrong invoice costs 40 euros"
    )
    assert (check["name"], check["why"]) == ("billing", "a wrong invoice costs 40 euros")
    assert check["reason"].startswith("billing: classes.billing.f1 0.7000 must")
    assert check["reason"].endswith("The rule is there because: a wrong invoice costs 40 euros.")


RULES = """name: tiny
modality: text
ingest: {kind: files, path: x.csv}
gate:
"""


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("{rule: floor, metric: log_loss, bound: 1}", "less of log_loss is better, so a floor would ask for a bad model: write {rule: ceiling, metric: log_loss, bound: …}"),
        ("{rule: floor, metric: fairness.sex.tpr_gap, bound: 1}", "write {rule: ceiling, metric: fairness.sex.tpr_gap, bound: …}"),
        ("{rule: floor, metric: acuracy, bound: 1}", "metric: 'acuracy' is not a metric of classification (did you mean accuracy?). Allowed: accuracy,"),
        ("{rule: floor, metric: slice.channel.email.accuracy, bound: 1}", "is not a metric of classification (did you mean slices?). Allowed: accuracy,"),
        ("{rule: floor, metric: accuracy., bound: 1}", "gate[1].metric: 'accuracy.'"),
        ("{rule: floor, metric: accuracy, bound: .nan}", "gate[1].bound: nan: input should be a finite number"),
        ("{rule: ceiling, metric: macro_f1, bound: 0.4}", "gate[0] (rule: floor, metric: macro_f1, bound: 0.5, on: point) and gate[1] (rule: ceiling, metric: macro_f1, bound: 0.4, on: point) contradict each other, as no number is both at least 0.5 and at most 0.4: change one"),
        ("{rule: floor, metric: macro_f1, bound: 0.6}", "bound: 0.6, on: point) judge the same: leave out one"),
        ("{rule: champion, require: better, margin: 0.02}\n  - {rule: champion, margin: 0.01}", "gate[1] (rule: champion, metric: macro_f1, require: better, margin: 0.02) and gate[2] (rule: champion, metric: macro_f1, require: not_worse, margin: 0.01) judge the same"),
        ("{rule: latency, ratio: 0}", "gate[1].ratio: 0: input should be greater than 0"),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused_when_the_recipe_is_read(
    tmp_path: Path, rules: str, told: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"{RULES}  - {{rule: floor, metric: macro_f1, bound: 0.5}}\n  - {rules}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert told in str(caught.value)


@pytest.mark.usefixtures("aspects")
def test_only_a_bound_on_quality_can_judge_a_first_model(tmp_path: Path) -> None:
    for rule in (
        "{rule: ceiling, metric: cost.bytes, bound: 9}",
        "{rule: floor, metric: rows, bound: 9}",
        "{rule: ceiling, metric: accuracy, bound: 1}",
    ):
        (tmp_path / "recipe.yaml").write_text(f"{RULES}  - {rule}\n")
        with pytest.raises(
            ConfigError, match="has no floor, so nothing could judge the first model"
        ):
            read_recipe(tmp_path / "recipe.yaml")
    (tmp_path / "recipe.yaml").write_text(
        RULES
        + "  - {rule: ceiling, metric: log_loss, bound: 1}\n  - {rule: floor, metric: slices.channel.*.accuracy, bound: 0.5}\n"
    )
    assert [rule.rule for rule in read_recipe(tmp_path / "recipe.yaml").gate] == [
        "ceiling",
        "floor",
    ]


def test_ten_test_rows_decide_nothing_however_good_the_model_is() -> None:
    verdict = judged(10, 1.0, baseline=0.0, champion=0.0)
    assert verdict["verdict"] == "inconclusive"
    assert (
        "10 test rows are too few to compare with the champion: at least 16 are needed."
        in verdict["reason"]
    )
    few = decision.judge(recipe(), {"rows": 10, "accuracy": 1.0}, THREE, {})
    assert few == {
        **few,
        "verdict": "inconclusive",
        "reason": "Every rule is met, but on 10 test rows, which decide nothing: at least 16 are needed.",
    }
    assert (
        decision.judge(recipe(), {"rows": 16, "accuracy": 1.0}, THREE, {})["verdict"] == "promote"
    )


def test_a_model_that_agrees_with_the_champion_on_few_rows_is_not_shown_to_be_no_worse() -> None:
    rule = {"rule": "champion", "metric": "accuracy", "margin": 0.02}
    for rows, verdict in ((60, "inconclusive"), (600, "promote")):
        labels = np.arange(rows, dtype=np.int64) % 3
        one = answers(labels, 1.0, 0)
        assert judge(recipe(rule), labels, {"model": one, "champion": one})["verdict"] == verdict


def test_slices_share_one_error_rate_and_the_worst_decides() -> None:
    rules = [
        {"rule": "champion", "metric": "accuracy", "margin": 0.05, "by": "channel"},
        {"rule": "champion", "metric": "accuracy", "margin": 0.05},
    ]
    labels = np.arange(600, dtype=np.int64) % 3
    good, bad = (
        {"model": answers(labels, share, 0), "champion": answers(labels, 0.9, 1)}
        for share in (0.95, 0.7)
    )
    matches = {
        "champion": {
            "": match(labels, good, "champion"),
            "channel=email": match(labels, good, "champion"),
            "channel=fax": match(labels, bad, "champion"),
        }
    }
    verdict = decision.judge(recipe(*rules), {"rows": 600, "accuracy": 0.95}, THREE, matches)
    assert (verdict["verdict"], [check["outcome"] for check in verdict["checks"]]) == (
        "reject",
        ["pass", "fail", "pass"],
    )
    assert verdict["reason"].startswith(
        "On channel=fax: accuracy 0.7000 against 0.9000 of the champion"
    )
    alone = decision.judge(recipe(rules[1]), {"rows": 600, "accuracy": 0.95}, THREE, matches)[
        "checks"
    ][1]
    assert verdict["checks"][2]["p_adjusted"] == pytest.approx(
        alone["p_adjusted"] * 2
    )  # as two of three comparisons are this one


def test_each_look_at_a_champion_has_less_to_spend_and_says_so() -> None:
    labels = np.arange(1000, dtype=np.int64) % 3
    said = {"model": answers(labels, 0.93, 0), "champion": answers(labels, 0.9, 1)}
    rule = {"rule": "champion", "metric": "accuracy", "require": "better"}
    first, fifth = (judge(recipe(rule), labels, said, look) for look in (1, 5))
    assert (first["verdict"], fifth["verdict"]) == ("promote", "inconclusive")
    assert (first["checks"][1]["alpha"], fifth["checks"][1]["alpha"]) == (
        0.0125,
        round(0.025 / 30, 6),
    )
    assert "at error rate 0.00083 of look 5 at it)" in fifth["reason"]


class Named:
    """A model that notes when it is asked."""

    def __init__(self, name: int, order: list[int]) -> None:
        self.name, self.order = name, order

    def __call__(self, rows: Sequence[Any]) -> np.ndarray:
        self.order.append(self.name)
        return np.zeros((len(rows), 2))


def test_latency_is_a_ratio_of_two_models_that_take_turns() -> None:
    order: list[int] = []
    timed: Any = latency.measure_latency((Named(0, order), Named(1, order)), ["row"] * 3, 2)  # type: ignore[arg-type]
    assert order[:8] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert timed.shape == (latency.MAX_ROUNDS, 2)
    assert (timed > 0).all()
    timed = np.array([[4.0, 2.0], [4.1, 2.0], [4.0, 2.1], [3.9, 2.0]])
    for ratio, outcome in ((1.2, "fail"), (4.0, "pass")):
        check = latency.check_latency(
            LatencyRule(rule="latency", ratio=ratio, batch=2), timed, 0.95
        )
        assert check["outcome"] == outcome
        assert check["low"] <= check["value"] <= check["high"]
        assert f"at most {ratio:g} times" in check["reason"]
    close = latency.check_latency(
        LatencyRule(rule="latency", ratio=1.5), np.array([[1.0, 1.0], [2.0, 1.0], [1.5, 1.0]]), 0.95
    )
    assert (
        close["outcome"],
        "another measurement on a quieter machine may decide" in close["reason"],
    ) == ("open", True)
    assert latency.check_latency(LatencyRule(rule="latency"), None, 0.95)["outcome"] == "none"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A small table's model with its evaluation, and the checks that let it pass."""
    folder = tmp_path_factory.mktemp("gate")
    made = tiny.recipe("tabular", folder, epochs=20)
    split = tiny.split("tabular", folder / "split", 200)
    files.write_table(split / "test.parquet", tiny.table("tabular", 700, 120))
    files.write_table(
        split / "rejects.parquet",
        rejected_rows.build_rejects(tiny.table("tabular", 900, 0), "split", ""),
    )
    train.run(made, StagePaths(folder), folder / "checkpoints")
    evaluate.run(made, StagePaths(folder))
    for suite in ("raw", "ready"):
        snapshot = hashing.hash_json(
            [hashing.sha256(split / f"{side}.parquet") for side in ("train", "val", "test")]
        )
        files.write_json(folder / "checks" / suite / "passed.json", {"snapshot": snapshot})
    return Recipe.model_validate(
        {
            **made.model_dump(),
            "gate": [
                {**FLOOR, "bound": 0.5},
                {"rule": "champion", "metric": "accuracy", "margin": 0.3},
            ],
        }
    ), folder


def copied(trained: tuple[Recipe, Path], to: Path) -> tuple[Recipe, Path, Path]:
    """The recipe, its folder, and its model once more as a champion."""
    folder = Path(shutil.copytree(trained[1], to / "data"))
    return trained[0], folder, Path(shutil.copytree(folder / "model", to / "champion"))


def test_the_champion_itself_is_promoted_and_the_verdict_has_the_same_bytes_when_repeated(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    preconditions.require_passed_checks(folder)
    verdicts = [gate.run(made, folder, champion, "v1", 2) for _ in range(2)]
    assert verdicts[0] == verdicts[1]
    assert (
        verdicts[0]["verdict"],
        verdicts[0]["champion"],
        verdicts[0]["look"],
        verdicts[0]["left_out"],
    ) == ("promote", "v1", 2, 0)
    assert verdicts[0]["changed"] == {
        "only_model_right": {"rows": 0, "such_as": []},
        "only_champion_right": {"rows": 0, "such_as": []},
    }


def test_latency_is_measured_beside_the_champion(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    timed = Recipe.model_validate(
        {
            **made.model_dump(),
            "gate": [{**FLOOR, "bound": 0.5}, {"rule": "latency", "ratio": 20.0, "batch": 4}],
        }
    )
    check = gate.run(timed, folder, champion, "v1")["checks"][1]
    assert (check["outcome"], "p95 for 4 row(s)" in check["reason"]) == ("pass", True)
    assert gate.run(timed, folder, None, None)["checks"][1]["outcome"] == "none"


def test_rows_that_the_champion_learnt_and_rows_like_them_are_left_out(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    test = files.read_table(folder / "split" / "test.parquet")
    names = test["id"].to_pylist()
    twin = test.slice(5, 1).set_column(
        0, "id", pa.array(["gone"])
    )  # set aside by the split, as it is like a test row
    files.write_table(
        folder / "split" / "rejects.parquet",
        rejected_rows.build_rejects(twin, "split", "near-duplicate on another side"),
    )
    export.write_trained_on(champion / "trained_on.parquet", [*names[:3], "gone"])
    new = unseen_rows.find_unseen_rows(test, folder, champion, made.modality)
    assert [name for name, one in zip(names, new, strict=True) if not one] == [*names[:3], names[5]]
    verdict = gate.run(made, folder, champion, "v1")
    assert (verdict["left_out"], verdict["checks"][1]["rows"]) == (4, 116)
    assert (
        "4 test rows were left out, as the champion was trained on them or on rows like them."
        in verdict["checks"][1]["reason"]
    )


def test_near_duplicates_of_what_the_champion_learnt_are_left_out_also_where_cleaning_dropped_them(
    tmp_path: Path,
) -> None:
    texts = [
        "please send me the invoice of last month again",
        "my password does not work any more since today",
        "where is my parcel",
    ]
    test = pa.table({"id": ["a", "b", "c"], "text": texts})
    gone = pa.table({"id": ["old"], "text": ["Please send me the invoice of last  month again!"]})
    files.write_table(
        tmp_path / "clean" / "rejects.parquet" / "part.parquet",
        rejected_rows.build_rejects(gone, "clean", "near_duplicates"),
    )
    for learnt, new in (
        (["old"], [False, True, True]),
        (["b"], [True, False, True]),
        (["other"], [True] * 3),
    ):
        export.write_trained_on(tmp_path / "champion" / "trained_on.parquet", learnt)
        assert (
            unseen_rows.find_unseen_rows(test, tmp_path, tmp_path / "champion", "text").tolist()
            == new
        )


@pytest.mark.parametrize("kept", [0, 5])
def test_where_the_champion_learnt_almost_all_test_rows_the_comparison_is_open(
    trained: tuple[Recipe, Path], tmp_path: Path, kept: int
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    export.write_trained_on(
        champion / "trained_on.parquet",
        files.read_table(folder / "split" / "test.parquet")["id"].to_pylist()[kept:],
    )
    verdict = gate.run(made, folder, champion, "v1")
    assert verdict["verdict"] == "inconclusive"
    assert verdict["reason"].startswith(
        f"{kept} test rows are too few to compare with the champion: at least 16 are needed. {120 - kept} test rows were left out"
    )


def break_(path: str, folder: Path, champion: Path) -> None:
    if path.startswith("champion/"):
        (champion / path.removeprefix("champion/")).write_bytes(b"broken")
    elif path == "split/test.parquet":
        files.write_table(folder / path, tiny.table("tabular", 700, 119))
    elif path == "model/model.onnx":
        (folder / path).write_bytes((folder / path).read_bytes() + b"0")
    else:
        (folder / path).unlink()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (
            "checks/raw/passed.json",
            "checks/raw/passed.json does not exist, so the check raw did not pass: run `dvc repro`",
        ),
        (
            "checks/ready/passed.json",
            "checks/ready/passed.json does not exist, so the check ready did not pass",
        ),
        ("split/test.parquet", "the split is not the one that .*ready/passed.json is about"),
        ("evaluation/metrics.json", "metrics.json does not exist: run the stage that writes it"),
        (
            "evaluation/predictions.parquet",
            "predictions.parquet does not exist: run the stage that writes it",
        ),
        (
            "model/model.onnx",
            "the model's files are not those that were evaluated: run `dvc repro`",
        ),
        ("champion/model.onnx", "champion/model.onnx cannot be loaded as an ONNX model"),
        ("champion/model.json", "champion/model.json is not valid JSON"),
        ("champion/trained_on.parquet", "trained_on.parquet is not a readable Parquet file"),
    ],
)
def test_without_one_of_these_there_is_no_verdict(
    trained: tuple[Recipe, Path], tmp_path: Path, path: str, told: str
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    break_(path, folder, champion)
    with pytest.raises(StageError, match=told):
        preconditions.require_passed_checks(folder)
        gate.run(made, folder, champion, "v1")


def test_a_test_split_that_changed_after_the_evaluation_is_refused(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, _ = copied(trained, tmp_path)
    break_("split/test.parquet", folder, folder)
    with pytest.raises(StageError, match="the test split changed since the evaluation"):
        gate.run(made, folder, None, None)


def test_a_champion_that_does_not_say_what_it_learnt_is_not_compared_with(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    (champion / "trained_on.parquet").unlink()
    with pytest.raises(StageError, match="does not say on which rows it was trained"):
        gate.run(made, folder, champion, "v1")


def test_a_metric_that_the_evaluation_lost_or_that_is_no_number_promotes_nothing(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, _ = copied(trained, tmp_path)
    path = folder / "evaluation" / "metrics.json"
    content = files.read_json(path)
    assert gate.run(made, folder, None, None)["verdict"] == "promote"
    metrics = {name: value for name, value in content["metrics"].items() if name != "accuracy"}
    files.write_json(path, {**content, "metrics": metrics})
    assert gate.run(made, folder, None, None)["verdict"] != "promote"
    for broken in (None, {"value": None}):
        files.write_json(path, {**content, "metrics": {**metrics, "accuracy": broken}})
        with pytest.raises(StageError, match="is not a valid Evaluation"):
            gate.run(made, folder, None, None)
    for missing in ("rows", "model_sha256", "test_sha256"):
        files.write_json(path, {key: value for key, value in content.items() if key != missing})
        with pytest.raises(StageError, match=f"is not a valid Evaluation.*{missing}"):
            gate.run(made, folder, None, None)


def test_a_column_to_compare_by_that_is_not_there_is_a_sentence(
    trained: tuple[Recipe, Path], tmp_path: Path
) -> None:
    made, folder, champion = copied(trained, tmp_path)
    by = Recipe.model_validate(
        {
            **made.model_dump(),
            "gate": [FLOOR, {"rule": "champion", "metric": "accuracy", "by": "lable"}],
        }
    )
    with pytest.raises(
        StageError, match=r"gate: by: the data has no column 'lable' \(did you mean label\?\)"
    ):
        gate.run(by, folder, champion, "v1")
    by = Recipe.model_validate(
        {
            **made.model_dump(),
            "gate": [
                FLOOR,
                {"rule": "champion", "metric": "accuracy", "margin": 0.3, "by": "label"},
            ],
        }
    )
    check = gate.run(by, folder, champion, "v1")["checks"][1]
    assert (check["outcome"], check["reason"].endswith("It is the worst of 2.")) == ("pass", True)
