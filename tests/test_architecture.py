"""The rules of the layout, read from the import statements and from dvc.yaml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NO_OUTPUT = {
    "tasks/board.py",
    "tasks/energy.py",
    "tasks/mistakes.py",
    "tasks/recipe.py",
    "tasks/resolve.py",
    "tasks/space.py",
    "tasks/step.py",
    "tasks/__init__.py",
}  # dvc.yaml says why these are no dependencies


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def files_of(name: str) -> str | None:
    path = Path(*name.split("."))
    if (ROOT / path.with_suffix(".py")).is_file():
        return str(path.with_suffix(".py"))
    return str(path / "__init__.py") if (ROOT / path / "__init__.py").is_file() else None


def closure(start: str) -> set[str]:
    found, todo = set(), [start]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        if path == "tasks/page.py":
            found |= {str(page.relative_to(ROOT)) for page in (ROOT / "tasks/pages").glob("*.html")}
        if path.endswith("__init__.py") and path not in NO_OUTPUT:  # packages load their modules by name
            todo += [str(module.relative_to(ROOT)) for module in (ROOT / path).parent.glob("*.py")]
        if path not in NO_OUTPUT:
            todo += [file for name in imported(ROOT / path) if name.startswith("tasks") and (file := files_of(name))]
    return found


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_depends_on_the_modules_that_its_step_uses(name: str) -> None:
    deps = set(STAGES[name]["deps"])
    needed = closure(f"tasks/{name}.py") - (NO_OUTPUT if name != "resolve" else {"tasks/step.py", "tasks/__init__.py"})
    missing = {path for path in needed if path not in deps and str(Path(path).parent) not in deps}
    assert not missing


@pytest.mark.parametrize(
    ("package", "where"), [("boto3", {"tasks/store.py"}), ("great_expectations", {"tasks/expectations.py"}), ("prefect", {"flows/"}), ("dvc", {"flows/"})]
)
def test_a_tool_appears_only_where_it_belongs(package: str, where: set[str]) -> None:
    users = {
        str(path.relative_to(ROOT))
        for top in ("flows", "tasks")
        for path in (ROOT / top).rglob("*.py")
        if any(name.split(".")[0] == package for name in imported(path))
    }
    assert users
    assert all(any(user.startswith(place) for place in where) for user in users)


def test_tasks_never_import_flows() -> None:
    assert not [path for path in (ROOT / "tasks").rglob("*.py") if any(name.split(".")[0] == "flows" for name in imported(path))]


def test_importing_the_flow_does_not_import_torch() -> None:
    code = "import sys, flows.retrain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, nor a comment alone, nor part of a docstring."""
    text = path.read_text()
    described = (ast.Module, ast.ClassDef, ast.FunctionDef)
    strings = [node.body[0] for node in ast.walk(ast.parse(text)) if isinstance(node, described) and ast.get_docstring(node, clean=False) is not None]
    told = {line for string in strings for line in range(string.lineno, (string.end_lineno or 0) + 1)}
    return sum(bool(line.strip()) and not line.strip().startswith("#") and number not in told for number, line in enumerate(text.splitlines(), 1))


def test_the_code_stays_small() -> None:
    assert sum(code_lines(path) for top in ("flows", "tasks") for path in (ROOT / top).rglob("*.py")) < 9200


def test_steps_never_import_steps() -> None:
    steps = {f"tasks.{name}" for name in STAGES} - {"tasks.resolve"}  # every step reads the resolved recipe through it
    for name in STAGES:
        assert not imported(ROOT / "tasks" / f"{name}.py") & steps


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"resolve"}))
def test_no_stage_depends_on_a_module_that_its_step_does_not_use(name: str) -> None:
    used = closure(f"tasks/{name}.py")
    listed = {path for path in STAGES[name]["deps"] if path.startswith("tasks/")}
    assert not listed - used - {str(Path(path).parent) for path in used}
