"""The layout's rules, read from the import statements and from dvc.yaml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import stage_dependencies
from tests.conftest import ROOT

# Lowest first. A module imports from its own layer and from those below it.
LAYERS = (
    ("core",),
    ("storage",),
    ("contracts",),
    ("telemetry",),
    ("recipe",),
    ("rows", "statistics", "sources", "registry"),
    ("problems", "checks", "cleaning", "reports"),
    ("modalities",),
    ("labelling", "training", "evaluation", "gating"),
    ("tuning",),
)
STAGES = sorted(stage_dependencies.stages())
LEVELS = {f"tasks.{name}": level for level, names in enumerate(LAYERS) for name in names}
LEVELS |= {f"tasks.{name}": len(LAYERS) for name in STAGES}
LEVELS["flows"] = len(LAYERS) + 1
# A tool and the only place that may import it.
HOMES = {
    "boto3": "tasks/storage/s3_client.py",
    "great_expectations": "tasks/checks/expectations.py",
    "prefect": "flows/",
    "dvc": "flows/",
}


def our_modules() -> list[Path]:
    return [path for top in ("flows", "tasks") for path in sorted((ROOT / top).rglob("*.py"))]


def imported_names(path: Path) -> set[str]:
    """List the dotted names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def level_of(dotted_name: str) -> int | None:
    """Return the layer of a module of ours; None for what is not ours."""
    top, _, rest = dotted_name.partition(".")
    if top == "flows":
        return LEVELS["flows"]
    return LEVELS.get(f"tasks.{rest.split('.')[0]}") if top == "tasks" else None


def test_every_package_has_a_layer() -> None:
    packages = {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")}
    assert packages == {name for names in LAYERS for name in names}


@pytest.mark.parametrize("path", our_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_from_a_higher_layer(path: Path) -> None:
    level = level_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if level is None:
        assert path == ROOT / "tasks" / "__init__.py"
        return
    levels = {name: level_of(name) for name in imported_names(path)}
    assert not [name for name, other in levels.items() if other is not None and other > level]


def test_the_files_of_tasks_are_the_stages() -> None:
    files = {path.stem for path in (ROOT / "tasks").glob("[!_]*.py")}
    assert files == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_no_other_stage(stage: str) -> None:
    others = {f"tasks.{name}" for name in STAGES}
    assert not imported_names(ROOT / "tasks" / f"{stage}.py") & others


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_yaml_names_the_code_that_a_stage_uses(stage: str) -> None:
    expected = stage_dependencies.derive_dependencies(stage)
    assert stage_dependencies.listed_dependencies(stage) == expected, (
        "run `python -m tests.stage_dependencies --write`"
    )


@pytest.mark.parametrize("tool", HOMES)
def test_a_tool_is_imported_only_in_its_home(tool: str) -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in our_modules()
        if any(name.split(".")[0] == tool for name in imported_names(path))
    ]
    assert users
    assert all(user.startswith(HOMES[tool]) for user in users)


def test_importing_the_flow_does_not_import_torch() -> None:
    code = "import sys, flows.retrain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
