"""Labels of several kinds are read alike, and those that cannot be learnt are refused."""

from pathlib import Path

import pyarrow as pa
import pytest

from tasks import clean, ingest, label, modalities, split
from tasks.core.errors import StageError
from tasks.problems.base import Problem
from tasks.problems.classification import ClassificationProblem
from tasks.problems.multilabel import MultilabelProblem
from tasks.problems.regression import RegressionProblem
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests import tiny
from tests.problems.helpers import DIABETES, OPERATIONS

DIABETES_WITH_ID = DIABETES.replace("ingest:", "columns: {id: id}\ningest:")


def label_rows(here: Path, text: str, labels: list[str]) -> Recipe:
    """Write rows with these labels, and run the stages up to `label`."""
    (here / "recipe.yaml").write_text(text)
    words = " ".join(tiny.WORDS)
    lines = ["id,a,text,label"]
    for number, cell in enumerate(labels):
        lines.append(f"r{number:02d},{number},{words} {number * number},{cell}")
    (here / "source.csv").write_text("\n".join(lines) + "\n")
    recipe = read_recipe(here / "recipe.yaml")
    ingest.run(recipe, StagePaths(here))
    no_rules = recipe.clean.model_copy(update={"rules": []})
    recipe = recipe.model_copy(update={"clean": no_rules})
    clean.run(recipe, StagePaths(here))
    label.run(recipe, StagePaths(here))
    return recipe


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        (
            DIABETES_WITH_ID,
            ["1", "nan", "x", "2", "inf"],
            "3 rows, r01 ('nan'), r02 ('x'), r04 ('inf'), have targets that are not finite numbers",
        ),
        (
            OPERATIONS,
            ["a|b", "a||b", "[1]"],
            "2 rows, r01 ('a||b'), r02 ('[1]'), have labels that cannot be read: write them as a|b",
        ),
        (
            OPERATIONS + "label: {classes: [a, bb]}\n",
            ["a|bb", "b|a"],
            "label 'b' of 1 row(s), first r01, is not among label.classes (did you mean bb?)",
        ),
    ],
)
def test_labels_that_cannot_be_read_are_named_with_their_rows(
    here: Path, text: str, labels: list[str], sentence: str
) -> None:
    with pytest.raises(StageError) as caught:
        label_rows(here, text, labels)
    assert sentence in str(caught.value)


def test_an_unlabelled_row_is_rejected_and_labels_are_written_in_one_way(here: Path) -> None:
    label_rows(here, OPERATIONS, ["b|a", '"[""c"", ""a""]"', "", "[]", "a | b"])
    table = files.read_table(here / "labelled" / "rows.parquet")
    assert table.select(["id", "label"]).to_pylist() == [
        {"id": "r00", "label": "a|b"},
        {"id": "r01", "label": "a|c"},
        {"id": "r03", "label": "[]"},
        {"id": "r04", "label": "a|b"},
    ]
    report = files.read_json(here / "labelled" / "report.json")
    assert report["classes"] == {"a": 3, "b": 2, "c": 1}
    assert files.read_table(here / "labelled" / "rejects.parquet")["id"].to_pylist() == ["r02"]
    assert 'choice="multiple"' in (here / "labelled" / "review.labelstudio.xml").read_text()


@pytest.mark.parametrize(
    ("text", "labels", "sentence"),
    [
        (
            DIABETES_WITH_ID,
            ["3"] * 40,
            "split: all rows have the same target, so there is nothing to learn",
        ),
        (
            OPERATIONS + "max_dropped: 1.0\n",
            ["a"] * 40,
            "split: all rows have the label 'a': a classifier needs at least two classes",
        ),
        (OPERATIONS + "max_dropped: 1.0\n", ["a|b"] * 39 + ["c"], "'c' has no row in t"),
    ],
)
def test_a_split_from_which_nothing_could_be_learnt_is_refused(
    here: Path, text: str, labels: list[str], sentence: str
) -> None:
    recipe = label_rows(here, text, labels)
    with pytest.raises(StageError) as caught:
        split.run(recipe, StagePaths(here))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("problem", "labels", "sentence"),
    [
        (
            ClassificationProblem,
            ["a", "a"],
            "train: all rows have the label 'a': a classifier needs at least two classes",
        ),
        (
            MultilabelProblem,
            ["a", "a"],
            "train: the rows have a alone: problem: multilabel needs at least two labels",
        ),
        (
            RegressionProblem,
            ["2", "2.0"],
            "train: all rows have the target 2: there is nothing to learn",
        ),
        (RegressionProblem, ["2", "nan"], "1 row, r1 ('nan'), have targets"),
    ],
)
def test_rows_from_which_nothing_can_be_learnt_are_refused_in_training(
    problem: type[Problem], labels: list[str], sentence: str
) -> None:
    with pytest.raises(StageError) as caught:
        problem.from_training_data(Train(), pa.table({"id": ["r0", "r1"], "label": labels}))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("problem_class", "cell"), [(ClassificationProblem, "a"), (MultilabelProblem, "a|b")]
)
def test_a_label_that_train_lacks_is_named_if_the_model_is_measured(
    problem_class: type[Problem], cell: str
) -> None:
    train = pa.table({"id": ["t", "u"], "label": [cell, "b"]})
    problem = problem_class.from_training_data(Train(), train)
    table = pa.table({"id": ["r0", "r1"], "label": ["a", "z"]})
    assert problem.filter_known_labels(table)["id"].to_pylist() == ["r0"]
    sentence = "the rows have the class 'z', which the model does not know"
    with pytest.raises(StageError, match=sentence):
        problem.targets(table)


@pytest.mark.parametrize(("column", "modality"), [("text", "text"), ("image", "image")])
def test_a_row_without_content_is_named(column: str, modality: str, tmp_path: Path) -> None:
    cells = pa.array([b"x", None], pa.binary() if column == "image" else pa.string())
    table = pa.table({"id": ["r0", "r1"], "label": ["a", "b"], column: cells})
    sentence = (
        f"1 row.s., such as r1, have no {column}: fill them in, or have a rule of clean reject them"
    )
    with pytest.raises(StageError, match=sentence):
        modalities.extract_inputs(tiny.recipe(modality, tmp_path), table)
