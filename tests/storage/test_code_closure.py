"""Which modules of ours count in the name under which a step's work is kept."""

import shutil
from pathlib import Path

import pytest

from tasks.storage import code_closure
from tests.conftest import ROOT

PACKAGE = {
    "ours/__init__.py": "",
    "ours/step.py": "import json, numpy, ours.plain\nfrom ours import tools\n",
    "ours/plain.py": "VALUE = 1\n",
    "ours/tools.py": (
        "def lazy():\n    try:\n        pass\n    finally:\n"
        "        from ours.inner.deep import thing\n"
    ),
    "ours/inner/__init__.py": "from . import near\n",
    "ours/inner/near.py": "from .. import above\n",
    "ours/inner/deep.py": "from ours import shown\nthing = 1\n",
    "ours/inner/unused.py": "",
    "ours/above.py": (
        "from importlib import import_module\n\n"
        "def named(name):\n    return import_module(f'ours.kinds.{name}')\n"
    ),
    "ours/kinds/__init__.py": "",
    "ours/kinds/one.py": "",
    "ours/kinds/two.py": "match 1:\n    case 1:\n        import ours.late\n",
    "ours/late.py": "import ours.step\n",
    "ours/own/__init__.py": (
        "import importlib\n\ndef named(name):\n    return importlib.import_module(name)\n"
    ),
    "ours/own/first.py": "",
    "ours/shown.py": "from ours import unused\n",
    "ours/unused.py": "",
}


def written(folder: Path, **changed: str) -> Path:
    """Write the package with these additions to its modules, and return its folder."""
    for name, text in PACKAGE.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + changed.get(path.stem, ""))
    return folder


def names(root: Path, start: str, *without: str) -> set[str]:
    return {
        code_closure.dotted_name(path, root)
        for path in code_closure.list_closure(root / start, without)
    }


def test_modules_are_found_wherever_and_however_they_are_imported(tmp_path: Path) -> None:
    direct = {"ours", "ours.step", "ours.plain", "ours.tools"}
    lazy = {
        "ours.inner",
        "ours.inner.deep",
        "ours.inner.near",
        "ours.above",
        "ours.shown",
        "ours.unused",
    }
    by_name = {"ours.kinds", "ours.kinds.one", "ours.kinds.two", "ours.late"}
    assert names(written(tmp_path), "ours/step.py") == direct | lazy | by_name


def test_a_module_that_is_left_out_takes_what_it_alone_imports_along(tmp_path: Path) -> None:
    left = names(written(tmp_path), "ours/inner/deep.py", "ours.shown")
    assert "ours.inner.deep" in left
    assert not left & {"ours.shown", "ours.unused", "ours.inner.unused"}


def test_a_package_that_imports_unknown_names_counts_whole(tmp_path: Path) -> None:
    assert names(written(tmp_path), "ours/own/__init__.py") == {
        "ours",
        "ours.own",
        "ours.own.first",
    }


def test_a_fingerprint_follows_the_modules_that_count_and_no_others(tmp_path: Path) -> None:
    def told(name: str, **changed: str) -> str:
        root = written(tmp_path / name, **changed)
        return code_closure.hash_closure(str(root / "ours" / "step.py"), frozenset({"ours.shown"}))

    same = told("same")
    assert told("elsewhere") == same
    assert told("shown", shown="# more\n", unused="# more\n") == same
    assert told("late", late="# more\n") != same
    assert told("deep", deep="# more\n") != same


@pytest.mark.parametrize(
    ("step", "module", "counts"),
    [
        ("train", "training/warm_start", True),
        ("train", "training/compression", True),
        ("train", "training/temperature_scaling", True),
        ("train", "modalities/text/tfidf", True),
        ("pretrain", "problems/language", True),
        ("tune", "training/distributed", True),
        ("tune", "tuning/study", True),
        ("ingest", "storage/object_store", True),
        ("train", "telemetry/progress", False),
        ("train", "telemetry/energy", False),
        ("train", "sources/sql", False),
        ("pretrain", "telemetry/tensorboard", False),
        ("tune", "core/stage", False),
    ],
)
def test_the_name_of_kept_work_changes_with_what_decides_it(
    tmp_path: Path, step: str, module: str, counts: bool
) -> None:
    before, after = (tmp_path / name / "tasks" for name in ("before", "after"))
    for folder in (before, after):
        shutil.copytree(ROOT / "tasks", folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (after / f"{module}.py").open("a") as file:
        file.write("# another version\n")
    known = code_closure.hash_closure(str(before / f"{step}.py"))
    assert (code_closure.hash_closure(str(after / f"{step}.py")) != known) == counts


@pytest.mark.parametrize("name", sorted(code_closure.RESULT_NEUTRAL))
def test_a_module_that_changes_no_result_exists(name: str) -> None:
    path = ROOT.joinpath(*name.split("."))
    assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
