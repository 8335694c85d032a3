"""Running a stage as a process."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from dvc.fs import LocalFileSystem
from dvc.rwlock import rwlock

from flows import stage_process
from tasks.core.errors import RetryableError, StageError

# Fails after writing a status of this kind.
FAIL = """
import os, sys
with open(os.environ["MILLRACE_STATUS"], "w") as file:
    file.write('{"kind": "%s", "reason": "because"}')
sys.exit(1)
"""
# Starts a process that outlives it, and writes its id to a file.
START_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(%r, "w") as file:
    file.write(str(child.pid))
time.sleep(60)
"""
REPORT = """
import time
from tasks.core import stage
stage.report_progress("trial", 1, 4)
stage.report_progress("step", 5, 10)
time.sleep(1)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def ignore(line: str) -> None:
    pass


def sleeper(workspace: Path, run: int) -> psutil.Popen:
    """Start a process that a run of a workspace would have started."""
    markers = {
        stage_process.WORKSPACE_VARIABLE: str(workspace),
        stage_process.RUN_VARIABLE: str(run),
    }
    return psutil.Popen(python("import time; time.sleep(60)"), env={**os.environ, **markers})


@pytest.fixture
def zombie() -> Iterator[psutil.Popen]:
    """A process that has ended and was not waited for."""
    process = psutil.Popen(python(""))
    while stage_process.is_alive(psutil.Process(process.pid)):
        time.sleep(0.02)
    yield process
    process.wait()


def test_lines_come_as_they_are_printed() -> None:
    seen: list[str] = []
    command = python("print('one'); print('two')")
    result = stage_process.run_process(command, "stage", 30, seen.append)
    assert result.lines == ["one", "two"]
    assert seen == ["one", "two"]


def test_progress_is_read_while_the_process_runs() -> None:
    seen: list[Mapping[str, tuple[int, int]]] = []
    stage_process.run_process(python(REPORT), "stage", 30, ignore, seen.append)
    assert {"trial": (1, 4), "step": (5, 10)} in seen


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("retryable", RetryableError),
        ("started", RetryableError),
        ("final", StageError),
        ("config_error", StageError),
    ],
)
def test_only_what_may_pass_is_retryable(kind: str, error: type[StageError]) -> None:
    with pytest.raises(error) as caught:
        stage_process.run_process(python(FAIL % kind), "stage", 30, ignore)
    assert isinstance(caught.value, RetryableError) == (kind in ("retryable", "started"))


def test_at_the_deadline_the_whole_group_ends(tmp_path: Path) -> None:
    child = tmp_path / "child"
    start_time = time.monotonic()
    with pytest.raises(RetryableError, match="took longer than its limit of 2 s"):
        stage_process.run_process(python(START_CHILD % str(child)), "stage", 2, ignore)
    assert time.monotonic() - start_time < 10
    assert not psutil.pid_exists(int(child.read_text()))


def test_orphans_of_this_workspace_are_ended_and_others_left(here: Path) -> None:
    dead_run = psutil.Popen(python(""))
    dead_run.wait()
    orphan = sleeper(here, dead_run.pid)
    elsewhere = sleeper(here / "elsewhere", dead_run.pid)
    of_a_living_run = sleeper(here, os.getpid())
    try:
        stage_process.end_orphan_processes(ignore)
        assert orphan.wait(5) != 0
        assert elsewhere.poll() is None
        assert of_a_living_run.poll() is None
    finally:
        for process in (elsewhere, of_a_living_run):
            process.kill()
            process.wait()


def test_half_a_lock_file_is_deleted_and_a_whole_one_kept(here: Path) -> None:
    path = here / stage_process.DVC_LOCK_FILE
    path.parent.mkdir(parents=True)
    path.write_text('{"a": ')
    stage_process.repair_dvc_locks(ignore)
    assert not path.exists()
    path.write_text("{}")
    stage_process.repair_dvc_locks(ignore)
    assert path.exists()


def test_a_lock_is_deleted_only_if_all_of_its_holders_are_dead(
    here: Path, zombie: psutil.Popen
) -> None:
    path = here / stage_process.DVC_LOCK_FILE
    path.parent.mkdir(parents=True)
    text = text_of_dvc_lock(here, path)
    path.write_text(text)
    stage_process.repair_dvc_locks(ignore)
    assert path.exists()
    path.write_text(text.replace(f'"pid": {os.getpid()}', f'"pid": {zombie.pid}'))
    stage_process.repair_dvc_locks(ignore)
    assert not path.exists()


def text_of_dvc_lock(workspace: Path, path: Path) -> str:
    """Return what DVC writes while this process holds a lock to read and one to write."""
    read = [str(workspace / "raw")]
    write = [str(workspace / "clean")]
    with rwlock(str(path.parent), LocalFileSystem(), "dvc repro", read, write, False):
        text = path.read_text()
    assert text.count(str(os.getpid())) == 2
    return text
