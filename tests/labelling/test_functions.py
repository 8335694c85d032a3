"""Labelling functions: their votes, and the sentences for a function that cannot vote."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from tasks import resolve
from tasks.contracts.model_info import ImageInput
from tasks.core.errors import ConfigError, StageError
from tasks.labelling import functions
from tasks.modalities import onnx
from tasks.modalities.onnx import ExportedInput
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tests import tiny

RECIPE = """name: desk
modality: {modality}
ingest: {{kind: files, path: source.csv}}
gate: [{{rule: floor, metric: macro_f1, bound: 0.5}}]
label: {{classes: [billing, shipping], functions: [{function}]}}
"""


def recipe(here: Path, function: str, modality: str = "text") -> Recipe:
    (here / "recipe.yaml").write_text(RECIPE.format(function=function, modality=modality))
    return read_recipe(here / "recipe.yaml")


def cast(here: Path, function: str, texts: list[str | None], **columns: Any) -> list[str | None]:
    table = pa.table(
        {
            "id": [f"r{n}" for n in range(len(texts))],
            "text": pa.array(texts, pa.string()),
            **columns,
        }
    )
    [found] = functions.cast_votes(recipe(here, function), table)
    return list(found.to_pylist())


def test_keywords_are_whole_words_or_phrases_in_any_case(here: Path) -> None:
    function = "{kind: keyword, words: [charged twice, C++, straße], label: billing}"
    texts = [
        "I was CHARGED\ttwice!",
        "charged twicefold",
        "overcharged twice",
        "in C++.",
        "c",
        "STRASSE",
        "Straße 5",
        None,
    ]
    assert cast(here, function, texts) == [
        "billing",
        None,
        None,
        "billing",
        None,
        None,
        "billing",
        None,
    ]


def test_keywords_are_found_in_scripts_without_spaces_between_words(here: Path) -> None:
    function = "{kind: keyword, words: [难吃, app, 送 餐], label: billing}"
    texts: list[str | None] = ["这个难吃死了", "APP很好", "happy很好", "送 餐员", "吃难"]
    assert cast(here, function, texts) == ["billing", "billing", None, "billing", None]


def test_a_pattern_reads_the_column_that_it_names(here: Path) -> None:
    function = r"{kind: regex, pattern: '^inv-\d+', label: billing, column: subject}"
    assert cast(here, function, ["INV-1", "x", "x"], subject=["none", "INV-77 late", None]) == [
        None,
        "billing",
        None,
    ]


def test_a_lookup_gives_the_label_of_the_key_whatever_its_type(here: Path) -> None:
    (here / "codes.csv").write_text(
        "\ufeffcode,team\n7,billing\n8, shipping \n9,\n"
    )  # with the byte order mark that spreadsheets write
    function = "{kind: lookup, file: codes.csv, column: code, value: team}"
    assert cast(here, function, ["a", "b", "c", "d"], code=[8, 7, 9, 10]) == [
        "shipping",
        "billing",
        None,
        None,
    ]


def test_similarity_finds_what_means_the_same_in_other_words(here: Path) -> None:
    function = (
        "{kind: similarity, examples: [where is my parcel, I want my money back], "
        "threshold: 0.45, label: shipping}"
    )
    texts = ["my package has not arrived", "please refund the payment", "how do I bake bread", None]
    assert cast(here, function, texts) == ["shipping", "shipping", None, None]
    assert cast(here, function, list(reversed(texts))) == [None, None, "shipping", "shipping"]


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Brightness(torch.nn.Module):
    """A model of two classes: the darker an image, the more likely the first."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        light = pixels.mean((1, 2, 3)) / 64 - 2
        return torch.stack([-light, light], 1)


def exported(folder: Path) -> Path:
    folder.mkdir()
    axes = {0: torch.export.Dim("rows", min=1)}
    pixels = ExportedInput("pixels", torch.zeros(2, 1, 4, 4), axes)
    onnx.export_network(Brightness(), [pixels], folder / "model.onnx")
    image = ImageInput(shape=(1, 4, 4))
    info = tiny.model_info("image", labels=["billing", "shipping"], input=image)
    info.write(folder / "model.json")
    return folder


def test_another_model_votes_where_it_is_sure_enough(here: Path) -> None:
    folder = exported(here / "model")
    table = pa.table(
        {"id": ["a", "b", "c", "d"], "image": [picture(0), picture(130), picture(255), picture(90)]}
    )
    [found] = functions.cast_votes(
        recipe(here, f"{{kind: model, path: {folder}, confidence: 0.9}}", "image"), table
    )
    assert found.to_pylist() == ["billing", None, "shipping", None]
    [found] = functions.cast_votes(recipe(here, f"{{kind: model, path: {folder}}}", "image"), table)
    assert found.to_pylist() == ["billing", "shipping", "shipping", "billing"]
    with pytest.raises(
        StageError,
        match=r"functions\[0\].path: .*model predicts from image, but this recipe's modality is "
        r"text: name another model, or give col",
    ):
        cast(here, f"{{kind: model, path: {folder}}}", ["a text"])


def test_files_and_models_that_functions_name_are_in_the_fingerprint(here: Path) -> None:
    folder = exported(here / "model")
    (here / "source.csv").write_text("id,text,label\na,b,c\n")
    (here / "said.csv").write_text("id,label\n")
    made = recipe(
        here, f"{{kind: model, path: {folder}}}, {{kind: lookup, file: codes.csv, column: id}}"
    )
    made = made.model_copy(
        update={"label": made.label.model_copy(update={"answers": ["said.csv"]})}
    )
    with pytest.raises(
        StageError,
        match=r"label.functions\[1\].file: codes.csv does not exist: put it there or "
        r"correct the path.",
    ):
        resolve.resolve_recipe(made)
    (here / "codes.csv").write_text("id,label\n")
    before = resolve.resolve_recipe(made).sources.label
    assert set(before) == {"said.csv", str(folder), "codes.csv"}
    (folder / "model.onnx").write_bytes(b"another model")
    after = resolve.resolve_recipe(made).sources.label
    assert [name for name in before if before[name] != after[name]] == [str(folder)]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            "{kind: keyword, words: [a], label: biling}",
            r"functions\[0\].label 'biling' is not among the classes \(did you mean billing\?\)",
        ),
        ("{kind: keyword, words: [], label: billing}", r"label.functions\[0\].words: "),
        ("{kind: keyword, words: [' '], label: billing}", r"label.functions\[0\].words\[0\]: "),
        (
            "{kind: regex, pattern: '(', label: billing}",
            r"label.functions\[0\].pattern: is not a regular expression: ",
        ),
        (
            "{kind: regex, pattern: 'a(?!b)', label: billing}",
            r"label.functions\[0\].pattern: has a look-around or a back-reference",
        ),
        (
            "{kind: similar, examples: [a], label: billing}",
            r"label.functions\[0\].kind: 'similar' is not known. "
            r"Allowed: 'keyword', 'regex', 'lookup', 'similarity'",
        ),
        (
            "{kind: keyword, word: [a], label: billing}",
            r"label.functions\[0\].word: is not a known key \(did you mean words\?\)",
        ),
    ],
)
def test_a_mistake_in_a_function_is_told_before_anything_runs(
    here: Path, function: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        recipe(here, function)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            "{kind: keyword, words: [a], label: billing, column: txt}",
            r"label.functions\[0\].column: the data has no column 'txt' \(did you mean text\?\)",
        ),
        (
            "{kind: keyword, words: [a], label: billing, column: blob}",
            r"label.functions\[0\].column: 'blob' holds binary, not text: name another column.",
        ),
        (
            r"{kind: regex, pattern: 'a\Z', label: billing}",
            r"label.functions\[0\].pattern: a\\Z cannot be matched "
            r"\(error: unrecognized escape sequence\)",
        ),
        (
            "{kind: lookup, file: codes.csv, column: text}",
            r"codes.csv: there is no column 'text'; it has id, label: "
            r"correct label.functions\[0\].",
        ),
        (
            "{kind: lookup, file: codes.csv, column: id}",
            r"label.functions\[0\] votes for 'shiping', which is not among label.classes "
            r"\(did you mean shipping\?\)",
        ),
        (
            "{kind: similarity, examples: [a], base: ./gone, label: billing}",
            r"label.functions\[0\].base: the folder ./gone does not exist",
        ),
        ("{kind: model, path: gone}", r"gone/model.json does not exist"),
    ],
)
def test_a_function_that_cannot_vote_ends_with_a_sentence(
    here: Path, function: str, sentence: str
) -> None:
    (here / "codes.csv").write_text("id,label\nr0,shiping\n")
    with pytest.raises(StageError, match=sentence):
        cast(here, function, ["a"], blob=[b"\xff\xfe"])
