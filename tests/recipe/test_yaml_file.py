"""YAML files that people write: what is refused is a sentence, never a traceback."""

import json
from pathlib import Path

import pytest

from tasks.core.errors import ConfigError
from tasks.recipe.yaml_file import read_yaml


def make_bomb(levels: int) -> str:
    """Write lists of ten aliases to lists of ten aliases, and so on."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, levels):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{aliases}]")
    return "\n".join(lines)


def read(folder: Path, text: str) -> object:
    path = folder / "values.yaml"
    path.write_text(text)
    return read_yaml(path)


def test_numbers_words_and_dates_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    text = "rate: 1e-4\nword: yes\nwhole: 54_000\nnothing: ~\nday: 2026-01-31\nhex: 0x1F\n"
    assert read(tmp_path, text) == {
        "rate": 0.0001,
        "word": "yes",
        "whole": 54000,
        "nothing": None,
        "day": "2026-01-31",
        "hex": 31,
    }


def test_aliases_and_merged_keys_are_copies(tmp_path: Path) -> None:
    content = read(tmp_path, "a: &a {x: [1], y: 2}\nb: *a\nc: {<<: *a, y: 3}\n")
    assert content == {"a": {"x": [1], "y": 2}, "b": {"x": [1], "y": 2}, "c": {"x": [1], "y": 3}}
    assert isinstance(content, dict)
    assert content["a"] is not content["b"]


def test_a_pair_of_surrogates_as_json_writes_it_is_one_character(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({"a": "\U0001f600"})) == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "a: 1\nb: {c: 2, c: 3}\n",
            'line 2, column 11: not valid YAML: the key "c" is given twice.',
        ),
        ("name: [\n", "line 2, column 1: not valid YAML: expected the node content"),
        ("a: b: c\n", "line 1, column 5: not valid YAML: mapping values are not allowed here."),
        (
            "a: !!python/object:os.system 1\n",
            "line 1, column 4: not valid YAML for a recipe: leave out the tag",
        ),
        ("a: *nothing\n", "line 1, column 4: not valid YAML: the alias *nothing names nothing"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: another document begins here"),
        (
            "1: a\n",
            'line 1, column 1: the key 1 is not text to YAML: write it in quotes, as in "1"',
        ),
        ("[a]: b\n", "line 1, column 1: a key that is not text: write a word"),
        ("<<: 3\n", "<< takes over the keys of mappings, and this is none"),
        ('a: "\\U99999999"\n', "not valid YAML: "),
        ("a: \x00\n", "not valid YAML: unacceptable character"),
        ("a: " + "[" * 500 + "]" * 500, "lists and mappings are nested more than 50 levels deep."),
        (make_bomb(9), "stands for more than 20,000 values or 1,000,000 characters: is it the"),
        ("a: &a [*a]\n", "the alias *a names nothing that ends before it."),
    ],
)
def test_a_broken_file_is_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert sentence in str(caught.value)


def test_a_secret_given_twice_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "url: http://a:first@b\nurl: http://a:second@b\n")
    assert "first" not in str(caught.value)
    assert "second" not in str(caught.value)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml is not UTF-8 text \(byte 3\)"):
        read_yaml(path)
