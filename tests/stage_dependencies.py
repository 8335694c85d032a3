"""Derive the code dependencies of each stage in dvc.yaml from the import statements.

    python -m tests.stage_dependencies --write

A stage depends on its own module and on every module of ours that it imports, directly or not,
except those that change no result. A package of which a stage uses at least half of the modules
is named as a whole.
"""

import re
import sys
from pathlib import Path

import yaml

from tasks.storage import code_closure
from tests.conftest import ROOT

DVC_FILE = ROOT / "dvc.yaml"
TEMPLATES = "tasks/reports/templates"  # used by whoever renders a page or a card
RENDERERS = {"tasks/reports/html_pages.py", "tasks/reports/model_card.py"}


def stages() -> dict[str, dict[str, list[str]]]:
    """Return the stages of dvc.yaml by name."""
    return dict(yaml.safe_load(DVC_FILE.read_text())["stages"])


def used_modules(stage: str) -> set[str]:
    """List the files that decide what a stage writes, relative to the repository."""
    neutral = code_closure.RESULT_NEUTRAL
    if stage == "resolve":  # the only stage that depends on how recipes are read
        neutral -= {"tasks.recipe"}
    paths = code_closure.list_closure(ROOT / "tasks" / f"{stage}.py", neutral)
    return {path.relative_to(ROOT).as_posix() for path in paths} - {"tasks/__init__.py"}


def derive_dependencies(stage: str) -> list[str]:
    """List the packages and modules that dvc.yaml should name for a stage."""
    used = used_modules(stage)
    dependencies = set()
    for module in used:
        folder = Path(module).parent
        siblings = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("[!_]*.py")}
        is_package_needed = folder != Path("tasks") and 2 * len(siblings & used) >= len(siblings)
        dependencies.add(folder.as_posix() if is_package_needed else module)
    if used & RENDERERS:
        dependencies.add(TEMPLATES)
    packages = {path for path in dependencies if not path.endswith((".py", "templates"))}
    return sorted(
        path
        for path in dependencies
        if not any(path.startswith(f"{package}/") for package in packages)
        and not (path.endswith("__init__.py") and not (ROOT / path).read_text().strip())
    )


def listed_dependencies(stage: str) -> list[str]:
    """List the code that dvc.yaml names for a stage."""
    return [path for path in stages()[stage]["deps"] if path.startswith("tasks/")]


def write() -> None:
    """Replace the lines of dvc.yaml that name code by the derived ones."""
    text = DVC_FILE.read_text()
    for stage in stages():
        start = re.search(rf"^  {stage}:\n", text, re.MULTILINE)
        assert start
        end = re.compile(r"^    (outs|metrics):\n", re.MULTILINE).search(text, start.end())
        assert end
        block = text[start.end() : end.start()]
        kept = [line for line in block.splitlines() if not line.startswith("    - tasks/")]
        kept += [f"    - {path}" for path in derive_dependencies(stage)]
        text = text[: start.end()] + "\n".join(kept) + "\n" + text[end.start() :]
    DVC_FILE.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.stage_dependencies --write")
    write()
