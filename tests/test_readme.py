"""The README is true: its tree exists and its commands are there."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

TEXT = (ROOT / "README.md").read_text()


def test_everything_in_the_tree_exists() -> None:
    tree = TEXT.split("## Tree")[1].split("```")[1]
    names = [line.split()[0] for line in tree.strip().splitlines()]
    assert len(names) == 17
    assert not [name for name in names if not (ROOT / name).exists()]


def test_every_millrace_command_in_the_readme_has_a_help_page_with_an_example() -> None:
    millrace = Path(sys.executable).with_name("millrace")
    found = {tuple(match.split()) for match in re.findall(r"`millrace ((?:recipe )?[a-z]+)", TEXT)}
    assert len(found) >= 5
    for words in found:
        shown = subprocess.run(
            [millrace, *words, "--help"], capture_output=True, text=True, cwd=ROOT
        )
        assert shown.returncode == 0
        assert "Example: millrace" in shown.stdout


def test_the_five_line_recipe_is_one(tmp_path: Path) -> None:
    from tasks.recipe.loading import read_recipe

    path = tmp_path / "reviews.yaml"
    path.write_text(TEXT.split("```yaml")[1].split("```")[0])
    assert read_recipe(path).name == "reviews"


def test_the_line_by_line_page_has_every_line_of_its_recipe() -> None:
    lines = [
        line.strip()
        for line in (ROOT / "recipes" / "xor.yaml").read_text().splitlines()
        if not line.startswith("#")
    ]
    explained = re.findall(r"^\| `(.*?)` \|", (ROOT / "docs" / "xor.md").read_text(), re.MULTILINE)
    assert explained == lines
