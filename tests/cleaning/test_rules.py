"""The registry of cleaning rules: what is in it, and how a rule is added to it."""

import inspect
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import Field

from tasks import clean, ingest
from tasks.cleaning import RULES
from tasks.cleaning.plan import RulePlan
from tasks.cleaning.rules import Reasons, Scope, row_rule, text_rule
from tasks.contracts.cleaning_report import CleaningReport
from tasks.recipe.base import Section
from tasks.recipe.cleaning_rules import CLEANING_RULES, RuleSchema
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import StagePaths

CHANGES_ONLY = {"trim", "missing", "spelling", "repair"}  # rules that reject no rows


def make_recipe(folder: Path, rules: str) -> Recipe:
    (folder / "recipe.yaml").write_text(
        "name: tiny\nmodality: text\ningest: {kind: files, path: source.csv}\n"
        f"clean: {{rules: {rules}}}\nmax_dropped: 1\n"
        "gate: [{rule: floor, metric: macro_f1, bound: 0.5}]\n"
    )
    return read_recipe(folder / "recipe.yaml")


def test_every_rule_has_a_function_and_a_schema() -> None:
    assert set(RULES) == set(CLEANING_RULES)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_takes_the_keys_of_its_schema(name: str) -> None:
    if RULES[name].scope is Scope.TEXT:
        assert CLEANING_RULES[name].arguments is None
        return
    schema = CLEANING_RULES[name].arguments
    keys = set(schema.model_fields) if schema else set()
    required = set()
    for parameter in list(inspect.signature(RULES[name].function).parameters.values())[1:]:
        if parameter.default is inspect.Parameter.empty:
            required.add(parameter.name)
    assert required - {"modality"} == keys


@pytest.mark.parametrize("name", RULES)
def test_every_rule_that_rejects_rows_says_why(name: str) -> None:
    changes_only = RULES[name].scope is Scope.TEXT or name in CHANGES_ONLY
    assert bool(CLEANING_RULES[name].reason) != changes_only


@pytest.mark.parametrize(
    ("rules", "n_streamed"),
    [
        ("[html, {length: {min: 2}}, exact_duplicates]", 3),
        ("[html, near_duplicates, exact_duplicates]", 1),
        ("[exact_duplicates, html, exact_duplicates, html]", 2),
        ("[]", 0),
    ],
)
def test_rules_from_the_first_that_needs_all_rows_get_all_rows(
    tmp_path: Path, rules: str, n_streamed: int
) -> None:
    recipe = make_recipe(tmp_path, rules)
    plan = RulePlan.of_recipe(recipe)
    assert len(plan.streamed) == n_streamed
    assert len(plan.streamed) + len(plan.whole) == len(recipe.clean.rules)


def test_two_functions_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="two functions are named as the cleaning rule html"):
        text_rule("html")(lambda text: text)


class WordLimit(Section):
    """Reject texts with too many words."""

    max_words: int = Field(5, description="The most words.")


def reject_wordy(table: pa.Table, max_words: int) -> Reasons:
    """Reject texts with more than `max_words` words."""
    reasons: Reasons = []
    for text in table["text"].to_pylist():
        count = len(text.split())
        reasons.append(f"{count} words; allowed are {max_words}" if count > max_words else None)
    return reasons


def test_a_new_rule_is_a_function_with_a_decorator_and_a_schema(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = RuleSchema("Reject wordy texts.", WordLimit, ("text",), "they have too many words")
    monkeypatch.setitem(CLEANING_RULES, "word_limit", schema)
    monkeypatch.setitem(RULES, "word_limit", RULES["length"])  # gone again after the test
    del RULES["word_limit"]
    row_rule("word_limit")(reject_wordy)

    (here / "source.csv").write_text("text,label\none two three,x\none two,x\n")
    recipe = make_recipe(here, "[{word_limit: {max_words: 2}}]")
    paths = StagePaths(here / "data")
    ingest.run(recipe, paths)
    clean.run(recipe, paths)
    report = CleaningReport.read(paths.clean.report)
    assert report.by_rule == {"word_limit": 1}
    assert "word_limit drops 1 (they have too many words)" in capsys.readouterr().out
    [reject] = files.read_table(paths.clean.rejects).to_pylist()
    assert reject["detail"] == "3 words; allowed are 2"
