"""CONTRIBUTING.md is true: its examples, added to a copy of the repository, work."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.storage import files
from tests.conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?:python|html)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# `# PATH`, `# PATH: add at the end` or `# PATH: add after `LINE`` begins a file or an addition.
HEADER = re.compile(
    r"^(?:# |<!-- )([a-z_]+/[\w/]+\.(?:py|html))"
    r"(?:: add (?:(at the end)|(before|after) `([^\n]+)`))?(?: -->)?\n",
    re.MULTILINE,
)
NEW_FILE = "new file"
AT_END = "at the end"
COPIED = ("flows", "tasks", "tests")
RECIPE = """\
name: letters
modality: trigrams
ingest: {kind: text_folders, path: letters}
clean: {rules: [{shouting: {max_share: 0.6}}, exact_duplicates]}
split: {val: 0.25, test: 0.25}
evaluate: {resamples: 100}
train: {epochs: 4, learning_rate: 1e-2, batch_size: 16, hidden_sizes: [16]}
gate:
  - {rule: floor, metric: macro_f1, bound: 0.5}
  - {rule: floor, metric: selective.surest_half, bound: 0.5}
"""
RUN_STAGES = """
from pathlib import Path
from tasks import clean, evaluate, gate, ingest, label, split, train
from tasks.recipe.loading import read_recipe
from tasks.storage.layout import StagePaths

recipe = read_recipe(Path("recipe.yaml"))
paths = StagePaths(Path("data"))
for stage in (ingest, clean, label, split):
    stage.run(recipe, paths)
train.run(recipe, paths, Path("checkpoints"))
evaluate.run(recipe, paths)
gate.run(recipe, paths)
"""
CLASSES = {"fruit": "apple banana cherry grape", "metal": "copper iron nickel zinc"}
ROWS_PER_CLASS = 60


@dataclass(frozen=True)
class Addition:
    """A new file, or lines to add to a file.

    Attributes:
        path: The file, relative to the repository.
        content: What is written or added.
        side: `new file`, `at the end`, `before` or `after`.
        anchor: The line before or after which lines are added.
    """

    path: str
    content: str
    side: str
    anchor: str = ""

    def apply(self, repository: Path) -> None:
        """Write the file, or add the lines where the page says."""
        path = repository / self.path
        if self.side == NEW_FILE:
            assert not path.exists(), f"{self.path} exists already"
            path.write_text(self.content, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines.insert(self.find_position(lines), self.content)
        path.write_text("".join(lines), encoding="utf-8")

    def find_position(self, lines: list[str]) -> int:
        """Return the number of the line before which to add."""
        if self.side == AT_END:
            return len(lines)
        anchors = [number for number, line in enumerate(lines) if line.rstrip() == self.anchor]
        assert len(anchors) == 1, f"{self.path} has {len(anchors)} lines {self.anchor!r}"
        return anchors[0] + (self.side == "after")


def read_additions(page: str) -> list[Addition]:
    """Read what the examples of the page add, in its order."""
    additions: list[Addition] = []
    for block in BLOCK.findall(page):
        additions += split_block(block)
    return additions


def split_block(block: str) -> Iterator[Addition]:
    """Yield the additions of one block, each of which begins with a comment."""
    headers = list(HEADER.finditer(block))
    assert headers, f"no comment names the file of:\n{block}"
    assert headers[0].start() == 0, f"the first line names no file:\n{block}"
    ends = [header.start() for header in headers[1:]] + [len(block)]
    for header, end in zip(headers, ends, strict=True):
        path, at_end, side, anchor = header.groups()
        content = block[header.end() : end].rstrip() + "\n"
        yield Addition(path, content, side or at_end or NEW_FILE, anchor or "")


def write_letters(folder: Path) -> None:
    """Write the files of two classes: enough to learn, two in capitals, and one that is no text."""
    for name, words in CLASSES.items():
        (folder / name).mkdir(parents=True)
        known = words.split()
        for number in range(ROWS_PER_CLASS):
            first = known[number % 4]
            second = known[number // 4 % 4]
            text = f"{first} {second} {number * 37}"
            (folder / name / f"{number:02d}.txt").write_text(text)
        (folder / name / "loud.txt").write_text(f"BUY {words.upper()}")
    (folder / "fruit" / "broken.txt").write_bytes(b"caf\xe9")


def run(repository: Path, folder: Path, *command: str) -> str:
    """Run a Python command with the copy's packages; return its output."""
    environment = os.environ | {
        "PYTHONPATH": str(repository),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the examples of the page."""
    copy = tmp_path_factory.mktemp("contributing") / "repository"
    copy.mkdir()
    for name in COPIED:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for addition in read_additions(PAGE):
        addition.apply(copy)
    run(copy, copy, "-m", "ruff", "format", "--no-cache", "-q", "tasks", "tests")
    return copy


@pytest.fixture(scope="module")
def workspace(repository: Path) -> Path:
    """A run of the stages with all four examples, in a folder of its own."""
    folder = repository.parent / "workspace"
    write_letters(folder / "letters")
    (folder / "recipe.yaml").write_text(RECIPE)
    run(repository, folder, "-c", RUN_STAGES)
    return folder


def test_the_examples_add_these_files() -> None:
    additions = read_additions(PAGE)
    new = [addition.path for addition in additions if addition.side == NEW_FILE]
    assert new == [
        "tests/cleaning/test_shouting.py",
        "tasks/sources/text_folders.py",
        "tasks/modalities/trigrams.py",
        "tasks/evaluation/selective.py",
        "tasks/reports/templates/selective.html",
    ]
    changed = [addition.path for addition in additions if addition.side != NEW_FILE]
    assert len(changed) == 9


def test_the_page_and_its_lines_are_short() -> None:
    lines = PAGE.splitlines()
    assert len(lines) <= 250
    assert not [line for line in lines if len(line) > 100]


def test_the_examples_pass_the_linter(repository: Path) -> None:
    run(repository, repository, "-m", "ruff", "check", "--no-cache", "tasks", "tests")


def test_the_tests_of_the_rule_and_of_all_rules_pass(repository: Path) -> None:
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    tests = ["tests/cleaning/test_shouting.py", "tests/cleaning/test_rules.py"]
    tests.append("tests/recipe/test_reference.py::test_every_key_has_a_description")
    assert "passed" in run(repository, repository, *arguments, *tests)


def test_the_source_reads_rows_and_rejects_what_is_none(workspace: Path) -> None:
    snapshot = files.read_json(workspace / "data" / "raw" / "snapshot.json")
    assert snapshot["rows"] == 2 * (ROWS_PER_CLASS + 1)
    assert snapshot["by_rule"] == {"broken row": 1}


def test_the_rule_rejects_rows(workspace: Path) -> None:
    report = files.read_json(workspace / "data" / "clean" / "report.json")
    assert report["by_rule"] == {"shouting": len(CLASSES)}


def test_the_modality_learns_and_is_evaluated(workspace: Path) -> None:
    model = files.read_json(workspace / "data" / "model" / "model.json")
    assert model["input"] == {"modality": "trigrams", "n_features": 512}
    evaluation = files.read_json(workspace / "data" / "evaluation" / "metrics.json")
    assert evaluation["metrics"]["accuracy"]["value"] > 0.9


def test_the_aspect_is_measured_and_reported(workspace: Path) -> None:
    evaluation = files.read_json(workspace / "data" / "evaluation" / "metrics.json")
    half = evaluation["aspects"]["selective"]["surest_half"]
    assert 0.9 < half["value"] <= 1
    assert half["low"] < half["value"]
    checks = files.read_json(workspace / "data" / "gate.json")["checks"]
    outcomes = {check["metric"]: check["outcome"] for check in checks}
    assert outcomes["selective.surest_half"] == "pass"
    report = (workspace / "data" / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "of the surest half are right" in report


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("# no file\n", "no comment names the file"),
        ("x = 1\n# tasks/new.py\n", "the first line names no file"),
    ],
)
def test_a_block_without_a_file_is_found(block: str, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        read_additions(f"```python\n{block}```\n")


def test_a_line_that_is_gone_is_found(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("a = 1\n")
    addition = Addition("module.py", "b = 2\n", "after", "c = 3")
    with pytest.raises(AssertionError, match="has 0 lines 'c = 3'"):
        addition.apply(tmp_path)
