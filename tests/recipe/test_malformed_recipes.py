"""Recipes as somebody writes them who wants to do harm: a sentence, or a recipe that JSON holds."""

import copy
import itertools
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from click.testing import CliRunner
from pydantic import JsonValue

from flows import cli
from tasks import resolve
from tasks.core.errors import MAX_MESSAGE_CHARACTERS, ConfigError, StageError
from tasks.recipe.defaults import fill_defaults
from tasks.recipe.label import Label
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tests.recipe_reference import EXAMPLES

MAX_SECONDS = 60  # far more than any of them takes
SOURCES: list[dict[str, JsonValue]] = [
    {"kind": "files", "path": ["a.csv"], "encoding": "utf-8", "delimiter": ";", "names": ["a"]},
    {"kind": "http", "url": "https://a.example/b.csv", "max_bytes": 10},
    {"kind": "s3", "bucket": "rows", "prefix": "p", "endpoint": "http://h.example:9000"},
    {"kind": "images", "path": ["a.idx"], "labels": ["b.idx"]},
    {"kind": "sql", "url": "sqlite:///a.db", "query": "select 1", "watermark": "w"},
    {"kind": "huggingface", "name": "a/b", "split": "train", "config": "c", "revision": "r"},
    {"kind": "request_log", "path": "a.jsonl", "feedback": "b.jsonl"},
]
SECTIONS: dict[str, JsonValue] = {
    "clean": {
        "rules": [
            {"types": {"columns": {"d": {"type": "date", "format": "%d/%m/%Y"}, "n": "number"}}},
            {"spelling": {"columns": ["a"], "map": {"x": "y"}}},
            {"range": {"columns": {"n": {"min": 0}, "d": {"max": "2026-01-31"}}}},
            {"outliers": {"columns": ["n"], "factor": 2.0}},
            {"pii": {"action": "mask"}},
            {"near_duplicates": {"threshold": 0.9}},
        ]
    },
    "label": {
        "classes": ["a", "b"],
        "answers": ["x.csv"],
        "functions": [
            {"kind": "regex", "pattern": "x+", "label": "a"},
            {"kind": "lookup", "file": "t.csv", "column": "c"},
            {"kind": "similarity", "examples": ["e"], "label": "a"},
            {"kind": "model", "path": "m"},
        ],
    },
    "check": {
        "raw": [{"expect_column_values_to_be_between": {"column": "a", "min_value": 0}}],
        "drift": {"rows": [0.5, 2.0], "psi": 0.2},
    },
    "split": {"time": "t", "val_from": "2026-01-01", "test_from": "2026-02-01", "folds": 5},
    "tune": {"space": {"learning_rate": {"low": 1e-4, "high": 1e-3}, "epochs": [1, 2]}},
    "train": {"class_weights": {"a": 2.0}, "hidden_sizes": [8], "l1": 0.1, "seed": 1},
    "export": {"distil": {"teacher": "champion"}, "prune": 0.1},
    "evaluate": {"slices": [{"column": "c", "values": ["a", 1]}, {"column": "e", "edges": [1.0]}]},
    "promote": {"channel": "production"},
    "engine": {"kind": "local", "address": "a"},
}
BOMB = ", ".join(f"&b{n} [{', '.join([f'*b{n - 1}'] * 99)}]" for n in range(1, 9))
# Written in the place of every value of a recipe in turn.
NASTY_VALUES = [
    "2026-02-30",
    "2026-01-31",
    ".inf",
    ".nan",
    "1e999",
    "9223372036854775807",
    "-1",
    "9" * 5000,
    "0x" + "f" * 500,
    "[" * 1000 + "]" * 1000,
    "&a [*a]",
    "!!int ''",
    "!!map [1]",
    "!!python/object:os.system x",
    r'"\0"',
    r'"\uD800"',
    r'"\e[2J"',
    '""',
    '"x"',
    "{1: 2}",
    "{[a]: b}",
    "{<<: 3}",
    "null",
    "{a: {a: [a]}}",
    "[null]",
    "punycode",
    '"http://["',
    '"http://a:99999/x"',
    '"%d%d"',
    '"("',
    '"/dev/zero"',
    f'"{"x" * 100_000}"',
    f"[{', '.join(['1'] * 300)}]",
    f"{{{', '.join(f'k{n}: 1' for n in range(300))}}}",
]
STRIDE = 4  # of the places of the longest recipe, of which every one would take a minute
PLACE = "@place@"
Path_ = tuple[str | int, ...]


def build_recipe(source: dict[str, JsonValue]) -> JsonValue:
    """Return a recipe that has every section and nearly every key."""
    rules: list[JsonValue] = [
        {"rule": "floor", "metric": "accuracy", "bound": 0.5, "name": "n"},
        {"rule": "champion", "by": "c"},
        {"rule": "latency"},
    ]
    head = {"name": "nasty", "modality": "text", "ingest": source, "gate": rules}
    filled = fill_defaults(copy.deepcopy({**head, **SECTIONS}))
    content: JsonValue = json.loads(Recipe.model_validate(filled).model_dump_json())
    return content


def iter_places(value: JsonValue, place: Path_ = ()) -> Iterator[Path_]:
    """Yield the place of each value within a value."""
    if place:
        yield place
    items: list[tuple[str | int, JsonValue]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        yield from iter_places(item, (*place, key))


def replace(content: JsonValue, place: Path_, text: str) -> str:
    """Return the content as YAML, with a text in the place of one value."""
    changed = copy.deepcopy(content)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]  # type: ignore[index, call-overload]
    inner[place[-1]] = PLACE  # type: ignore[index, call-overload]
    return json.dumps(changed).replace(json.dumps(PLACE), text)


def read_as_json(path: Path) -> str:
    """Return what the recipe would be kept as, or the sentence that refuses it."""
    try:
        recipe = read_recipe(path)
    except ConfigError as error:
        return str(error)
    content = files.format_json(recipe.model_dump(mode="json"))
    assert Recipe.model_validate(json.loads(content)) == recipe
    return content


@pytest.fixture
def deadline() -> Iterator[None]:
    """End a test that hangs."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError("reading a recipe hangs")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MAX_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source["kind"])
def test_no_value_in_any_place_ends_in_a_traceback(
    tmp_path: Path, source: dict[str, JsonValue]
) -> None:
    content = build_recipe(source)
    path = tmp_path / "nasty.yaml"
    offset = SOURCES.index(source) * len(NASTY_VALUES) // len(SOURCES)
    values = itertools.islice(itertools.cycle(NASTY_VALUES), offset, None)
    places = list(iter_places(content))[::STRIDE]
    if source is not SOURCES[0]:
        places = [place for place in iter_places(content) if place[0] == "ingest"]
    for place, value in zip(places, values, strict=False):
        path.write_text(replace(content, place, value))
        answer = read_as_json(path)
        assert answer.startswith("{") or len(answer) <= MAX_MESSAGE_CHARACTERS


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("split.val_from", "2026-02-30", "'2026-02-30' is neither a number nor a date or time"),
        ("split.val_from", "!!int ''", "leave out the tag tag:yaml.org,2002:int"),
        ("split.val_from", "9" * 5000, "is too large for a number"),
        ("extends", r'"x\0"', "the text holds the character NUL"),
        ("extends", "../../etc/passwd", "extends: '../../etc/passwd'"),
        ("label.classes.0", r'"\uD800"', "half of a character (a lone surrogate"),
        ("label.functions.0", "[" * 1000, "nested more than 50 levels deep"),
        ("label.functions.0", "{a: &a [*a]}", "the alias *a names nothing that ends before it"),
        ("train.l1", ".inf", "train.l1: inf: input should be a finite number"),
        ("train.seed", "-1", "train.seed: -1: input should be greater than or equal to 0"),
        ("train.base", "package:os.path", "names no package: write package:NAME"),
        ("export.distil.teacher", '""', "export.distil.teacher: '': string should have at least"),
        ("check.raw.0", "{expect_column_to_exist: {column: [a]}}", "is not the name of a column"),
        ("check.raw.0", "{expect_column_to_exist: {column: a, severity: []}}", "severity: []"),
        ("clean.rules.0.types.columns.d.format", '"%d%d"', "does not give day, month and year"),
        ("clean.rules.2.range.columns.n.min", ".nan", "clean.rules.2.range.columns.n.min"),
        ("ingest.delimiter", "é", "'é' cannot divide cells"),
        ("ingest.encoding", "punycode", "'punycode' is not an encoding of text"),
        ("name", r'"\e[2Jx"', r"\x1b[2Jx"),
        ("name", f'"{"x" * 100_000}"', "xx…xx"),
        ("name", f"[&b0 [x, x, x, x], {BOMB}]", "stands for more than 20,000 values"),
    ],
)
def test_a_value_that_no_recipe_can_have_is_refused_with_a_sentence(
    tmp_path: Path, place: str, value: str, sentence: str
) -> None:
    path = tmp_path / "nasty.yaml"
    keys = tuple(int(key) if key.isdigit() else key for key in place.split("."))
    path.write_text(replace(build_recipe(SOURCES[0]), keys, value))
    if place.startswith("clean.rules.2"):
        sentence = "finite number"
    assert sentence in read_as_json(path)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"kind": "http", "url": "http://["}, "ingest.url: is not the URL of a server"),
        ({"kind": "http", "url": "http://h:99999/x"}, "ingest.url: is not the URL of a server"),
        ({"kind": "http", "url": "http://${U}@${H}:${P}/x"}, ""),
        ({"kind": "s3", "bucket": "abc", "endpoint": "http://h:0"}, "ingest.endpoint: is not"),
        ({"kind": "s3", "bucket": "abc", "endpoint": "${URL}"}, ""),
        ({"kind": "s3", "bucket": "a b c"}, "ingest.bucket: 'a b c'"),
    ],
)
def test_an_address_is_checked_before_anything_is_sent(
    tmp_path: Path, source: dict[str, JsonValue], sentence: str
) -> None:
    path = tmp_path / "nasty.yaml"
    path.write_text(EXAMPLES[""].replace("{kind: files, path: data/sources/reviews.csv}", "X"))
    path.write_text(path.read_text().replace("X", json.dumps(source)))
    answer = read_as_json(path)
    assert sentence in answer
    assert answer.startswith("{") == (not sentence)


def test_very_many_mistakes_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    keys = "".join(f"key{number}: 1\n" for number in range(5000))
    path = tmp_path / "nasty.yaml"
    path.write_text(EXAMPLES[""] + keys)
    with pytest.raises(ConfigError) as caught:
        read_recipe(path)
    assert "has 5,000 mistakes" in str(caught.value)
    assert str(caught.value).endswith("And 4,980 more.")


@pytest.mark.usefixtures("deadline")
def test_what_is_no_file_is_refused_at_once(here: Path) -> None:
    Path("params.yaml").write_text("recipes: []\n")
    os.mkfifo("pipe")
    Path("large.yaml").write_bytes(b"a" * 1_000_000)
    for name, sentence in (
        ("pipe", "pipe is not a file"),
        ("/dev/zero", "/dev/zero is not a file"),
        (".", ". cannot be read: Is a directory"),
        ("x" * 300, "cannot be read: File name too long"),
        ("large.yaml", "large.yaml is larger than 500,000 bytes"),
        ("nothing", "nothing does not exist"),
    ):
        done = CliRunner().invoke(cli.main, ["recipe", "add", name])
        assert done.exit_code == 2
        assert f"error: {sentence}" in done.output.replace("x" * 300 + " ", "")
    assert Path("params.yaml").read_text() == "recipes: []\n"
    assert not Path("recipes").exists()


@pytest.mark.usefixtures("deadline")
def test_a_file_that_a_recipe_names_is_one(here: Path) -> None:
    os.mkfifo("pipe")
    for path, sentence in (
        ("pipe", "pipe is not a file"),
        ("/dev/zero", "/dev/zero is not a file"),
        (".", "label.answers: . is a folder without a model"),
    ):
        with pytest.raises(StageError, match=re.escape(sentence)):
            resolve.hash_label_files(Label(answers=path))
