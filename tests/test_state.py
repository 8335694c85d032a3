"""docs/state.md lists every setting and every place where the program keeps files."""

import re

from tasks.core.settings import Settings, variable_name
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "state.md").read_text()
# A path in the code that begins with a folder in which state is kept.
STATE_PATH = re.compile(
    r"""["'](\.millrace/[\w.-]+|checkpoints/\.\w+|checkpoints|runs|\.dvc/[\w./]+)"""
)


def documented_variables() -> set[str]:
    return set(re.findall(r"^\| `(MILLRACE_\w+)` \|", TEXT, re.MULTILINE))


def paths_in_code() -> set[str]:
    paths: set[str] = set()
    for top in ("flows", "tasks"):
        for module in (ROOT / top).rglob("*.py"):
            paths.update(STATE_PATH.findall(module.read_text()))
    return paths


def test_every_setting_is_documented() -> None:
    assert documented_variables() == {variable_name(field) for field in Settings.model_fields}


def test_every_place_of_state_is_documented() -> None:
    places = paths_in_code()
    assert {".millrace/lock", ".millrace/s3", "checkpoints/.tune"} <= places
    assert [place for place in sorted(places) if f"`{place}" not in TEXT] == []


def test_no_other_module_reads_a_millrace_variable() -> None:
    readers = [
        module.relative_to(ROOT).as_posix()
        for top in ("flows", "tasks")
        for module in (ROOT / top).rglob("*.py")
        if re.search(r"environ(\.get\(|\[)[^\n]*MILLRACE_", module.read_text())
    ]
    assert readers == []
