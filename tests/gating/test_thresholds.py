"""Floors and ceilings on small evaluations, and how a rule that is missed explains itself."""

from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.recipe.loading import read_recipe
from tests.gating.helpers import EVALUATION, check_bound

CALIBRATION_ERROR = "calibration.expected_calibration_error"
RULES = """name: tiny
modality: text
ingest: {kind: files, path: x.csv}
gate:
"""


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("rule", "metric", "bound", "outcome", "ending"),
    [
        ("floor", "accuracy", 0.85, "pass", "accuracy 0.8500 is at least 0.85."),
        (
            "floor",
            "accuracy",
            0.9,
            "fail",
            "accuracy 0.8500 must be at least 0.9. It is 0.0500 too low, about 15 more of 300 "
            "rows right would reach it.",
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
        ("ceiling", CALIBRATION_ERROR, 0.05, "pass", "is at most 0.05."),
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
def test_a_bound_on_any_number_says_by_how_much_it_is_missed(
    rule: str, metric: str, bound: float, outcome: str, ending: str
) -> None:
    check = check_bound(rule, metric, bound)
    assert (check.outcome, check.rule, check.bound) == (outcome, rule, bound)
    assert check.reason.endswith(ending)


@pytest.mark.usefixtures("aspects")
def test_of_all_slices_the_worst_is_named_with_others_that_fail() -> None:
    check = check_bound("floor", "slices.channel.*.accuracy", 0.8)
    assert check.outcome == "fail"
    assert (check.path, check.value) == ("slices.channel.phone.accuracy", 0.7)
    assert check.reason.startswith(
        "slices.channel.phone.accuracy 0.7000 must be at least 0.8. It is 0.1000 too low, about "
        "10 more of 100 rows right"
    )
    assert check.reason.endswith(
        "It is the worst of 3; the rule is not met by slices.channel.web.accuracy (0.7500) either."
    )
    assert check_bound("floor", "slices.channel.*.accuracy", 0.7).outcome == "pass"
    assert check_bound("floor", "robustness.*.kept", 0.9).path == "robustness.typos.kept"


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("rule", "metric", "bound", "outcome"),
    [
        ("floor", "accuracy", 0.81, "pass"),
        ("floor", "accuracy", 0.82, "inconclusive"),
        ("floor", "accuracy", 0.89, "inconclusive"),
        ("floor", "accuracy", 0.9, "fail"),
        ("ceiling", CALIBRATION_ERROR, 0.06, "pass"),
        ("ceiling", CALIBRATION_ERROR, 0.05, "inconclusive"),
        ("ceiling", CALIBRATION_ERROR, 0.02, "inconclusive"),
        ("ceiling", CALIBRATION_ERROR, 0.01, "fail"),
    ],
)
def test_a_bound_inside_the_interval_is_inconclusive(
    rule: str, metric: str, bound: float, outcome: str
) -> None:
    assert check_bound(rule, metric, bound, on="interval").outcome == outcome


@pytest.mark.usefixtures("aspects")
def test_a_number_without_an_interval_fails_a_rule_on_the_interval() -> None:
    check = check_bound("floor", "robustness.typos.kept", 0.5, on="interval")
    assert check.outcome == "fail"
    assert check.reason == (
        "robustness.typos.kept 0.9300 has no interval to hold against the bound: write `on: point`."
    )


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("metric", "outcome", "beginning"),
    [
        (
            "robustness.typo.kept",
            "fail",
            "robustness has no 'typo' (did you mean typos?), so the rule on robustness.typo.kept "
            "fails: it has typos, case.",
        ),
        (
            "slices.channel.email.acuracy",
            "fail",
            "slices.channel.email has no 'acuracy' (did you mean accuracy?), so the rule",
        ),
        (
            "slices.country.at.accuracy",
            "inconclusive",
            "slices.country.at.accuracy has 2 rows, too few to be measured: more test rows would "
            "decide.",
        ),
        (
            "slices.country.ch.accuracy",
            "fail",
            "slices.country.ch.accuracy has no rows, so the rule fails.",
        ),
        (
            "slices.country.*.accuracy",
            "fail",
            "slices.country.ch.accuracy has no rows, so the rule fails. It is the worst of 3; the "
            "rule is not met by slices.country.at",
        ),
        (
            "slices.team.*.accuracy",
            "fail",
            "slices has no 'team', so the rule on slices.team.*.accuracy fails: it has minimum, "
            "channel, country.",
        ),
        ("macro_f1", "fail", "macro_f1 is not a number, so the rule fails: it is nan."),
        (
            "slices.country.at.range",
            "fail",
            "slices.country.at.range is not a number, so the rule fails: it is 1 to 2.",
        ),
        (
            "classes.billing",
            "fail",
            "classes.billing is a group, not a number: use one of its entries, f1, recall, "
            "support.",
        ),
    ],
)
def test_an_entry_that_is_no_number_does_not_pass(
    metric: str, outcome: str, beginning: str
) -> None:
    check = check_bound("floor", metric, 0.0)
    assert check.outcome == outcome
    assert check.reason.startswith(beginning)


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("aspect", "metric"),
    [
        ("fairness", "sex.tpr_gap"),
        ("calibration", "expected_calibration_error"),
        ("cost", "bytes"),
        ("privacy", "membership_auc"),
    ],
)
def test_an_aspect_that_the_evaluation_lost_fails_its_rules(aspect: str, metric: str) -> None:
    path = f"{aspect}.{metric}"
    lacking = {name: value for name, value in EVALUATION.items() if name != aspect}
    check = check_bound("ceiling", path, 1e9, lacking)
    assert check.outcome == "fail"
    assert check.reason.startswith(f"The evaluation has no {aspect!r}")
    assert f"so the rule on {path} fails: it has rows, accuracy, " in check.reason
    assert check_bound("ceiling", path, 1e9).outcome == "pass"


def test_a_rule_that_fails_gives_its_name_and_purpose() -> None:
    purpose = "a wrong invoice costs 40 euros"
    check = check_bound("floor", "classes.billing.f1", 0.8, name="billing", reason=purpose)
    assert (check.name, check.rule_reason) == ("billing", purpose)
    assert check.reason.startswith("billing: classes.billing.f1 0.7000 must")
    assert check.reason.endswith(f"The recipe has this rule because: {purpose}.")


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        (
            "{rule: floor, metric: log_loss, bound: 1}",
            "less of log_loss is better, so a floor would ask for a bad model: "
            "write {rule: ceiling, metric: log_loss, bound: …}",
        ),
        (
            "{rule: floor, metric: fairness.sex.tpr_gap, bound: 1}",
            "write {rule: ceiling, metric: fairness.sex.tpr_gap, bound: …}",
        ),
        (
            "{rule: floor, metric: acuracy, bound: 1}",
            "metric: 'acuracy' is not a metric of classification (did you mean accuracy?). "
            "Allowed: accuracy,",
        ),
        (
            "{rule: floor, metric: slice.channel.email.accuracy, bound: 1}",
            "is not a metric of classification (did you mean slices?). Allowed: accuracy,",
        ),
        ("{rule: floor, metric: accuracy., bound: 1}", "gate[1].metric: 'accuracy.'"),
        (
            "{rule: floor, metric: accuracy, bound: .nan}",
            "gate[1].bound: nan: input should be a finite number",
        ),
        (
            "{rule: ceiling, metric: macro_f1, bound: 0.4}",
            "gate[0] (rule: floor, metric: macro_f1, bound: 0.5, on: point) and "
            "gate[1] (rule: ceiling, metric: macro_f1, bound: 0.4, on: point) contradict each "
            "other, as no number is both at least 0.5 and at most 0.4: change one",
        ),
        (
            "{rule: floor, metric: macro_f1, bound: 0.6}",
            "bound: 0.6, on: point) judge the same: leave out one",
        ),
        (
            "{rule: champion, require: better, margin: 0.02}\n  - {rule: champion, margin: 0.01}",
            "gate[1] (rule: champion, metric: macro_f1, require: better, margin: 0.02) and "
            "gate[2] (rule: champion, metric: macro_f1, require: not_worse, margin: 0.01) "
            "judge the same",
        ),
        ("{rule: latency, ratio: 0}", "gate[1].ratio: 0: input should be greater than 0"),
    ],
)
def test_rules_that_make_no_sense_are_refused_with_the_recipe(
    tmp_path: Path, rules: str, sentence: str
) -> None:
    first = "{rule: floor, metric: macro_f1, bound: 0.5}"
    (tmp_path / "recipe.yaml").write_text(f"{RULES}  - {first}\n  - {rules}\n")
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "recipe.yaml")
    assert sentence in str(caught.value)


@pytest.mark.usefixtures("aspects")
@pytest.mark.parametrize(
    "rule",
    [
        "{rule: ceiling, metric: cost.bytes, bound: 9}",
        "{rule: floor, metric: rows, bound: 9}",
        "{rule: ceiling, metric: accuracy, bound: 1}",
    ],
)
def test_a_first_model_needs_a_bound_on_its_quality(tmp_path: Path, rule: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"{RULES}  - {rule}\n")
    with pytest.raises(ConfigError, match="has no floor, so nothing could judge the first model"):
        read_recipe(tmp_path / "recipe.yaml")


@pytest.mark.usefixtures("aspects")
def test_a_ceiling_on_a_loss_can_judge_a_first_model(tmp_path: Path) -> None:
    rules = (
        "  - {rule: ceiling, metric: log_loss, bound: 1}\n"
        "  - {rule: floor, metric: slices.channel.*.accuracy, bound: 0.5}\n"
    )
    (tmp_path / "recipe.yaml").write_text(RULES + rules)
    gate = read_recipe(tmp_path / "recipe.yaml").gate
    assert [rule.rule for rule in gate] == ["ceiling", "floor"]
