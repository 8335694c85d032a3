"""YAML files that people write: what is refused is a sentence, never a traceback."""

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
    content = read(tmp_path, "rate: 1e-4\nword: yes\nwhole: 54000\nnothing: ~\n")
    assert content == {"rate": 0.0001, "word": "yes", "whole": 54000, "nothing": None}


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
            "line 1, column 4: not valid YAML: could not determine",
        ),
        ("a: *nothing\n", "line 1, column 4: not valid YAML: found undefined alias 'nothing'."),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML: but found another document."),
        ("a: 2026-13-01\n", "not valid YAML: month must be in 1..12"),
        ("a: \x00\n", "not valid YAML: unacceptable character"),
        ("a: " + "[" * 500 + "]" * 500, "its lists and mappings are nested too deeply."),
        (make_bomb(9), "holds more than 100,000 values: is it the right file?"),
        ("a: &a [*a]\n", "holds more than 100,000 values: is it the right file?"),
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
