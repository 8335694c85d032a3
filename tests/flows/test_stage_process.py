"""Running a stage as a process."""

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from dvc.fs import LocalFileSystem
from dvc.rwlock import rwlock

from flows import stage_process
from tasks.core.errors import RetryableError, StageError

NOTE = 'import os, sys; open(os.environ[\'MILLRACE_STATUS\'], \'w\').write(\'{"kind": "%s", "reason": "because"}\'); sys.exit(1)'


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_come_as_they_are_printed() -> None:
    seen: list[str] = []
    assert (
        stage_process.run_process(python("print('one'); print('two')"), seen.append, 30, "stage")
        == ["one", "two"]
        == seen
    )


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
        stage_process.run_process(python(NOTE % kind), lambda line: None, 30, "stage")
    assert isinstance(caught.value, RetryableError) == (kind in ("retryable", "started"))


def test_at_the_deadline_the_whole_group_ends(tmp_path: Path) -> None:
    child = tmp_path / "child"
    code = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); open({str(child)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    begun = time.monotonic()
    with pytest.raises(RetryableError, match="took longer than its limit of 2 s"):
        stage_process.run_process(python(code), lambda line: None, 2, "stage")
    assert time.monotonic() - begun < 10
    assert not psutil.pid_exists(int(child.read_text()))


def test_orphans_of_this_workspace_are_swept_and_others_left(here: Path) -> None:
    ended = psutil.Popen(python(""))
    ended.wait()

    def sleeper(where: Path, owner: int) -> psutil.Popen:
        return psutil.Popen(
            python("import time; time.sleep(60)"),
            env={
                **os.environ,
                stage_process.WORKSPACE_VARIABLE: str(where),
                stage_process.RUN_VARIABLE: str(owner),
            },
        )

    orphan, elsewhere, of_a_living_run = (
        sleeper(here, ended.pid),
        sleeper(here / "elsewhere", ended.pid),
        sleeper(here, os.getpid()),
    )
    try:
        stage_process.end_orphan_processes(lambda line: None)
        assert orphan.wait(5) != 0
        assert elsewhere.poll() is None
        assert of_a_living_run.poll() is None
    finally:
        for other in (elsewhere, of_a_living_run):
            other.kill()
            other.wait()


def test_half_a_lock_file_is_deleted_and_a_whole_one_kept(here: Path) -> None:
    path = here / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    path.write_text('{"a": ')
    stage_process.repair_dvc_locks(lambda line: None)
    assert not path.exists()
    path.write_text("{}")
    stage_process.repair_dvc_locks(lambda line: None)
    assert path.exists()


def test_a_lock_of_a_dead_process_is_deleted_even_of_a_zombie_and_that_of_a_living_one_kept(
    here: Path,
) -> None:
    path = here / ".dvc" / "tmp" / "rwlock"
    path.parent.mkdir(parents=True)
    zombie = psutil.Popen(python(""))
    while stage_process.is_alive(psutil.Process(zombie.pid)):
        time.sleep(0.02)
    for number, stays in ((zombie.pid, False), (os.getpid(), True)):
        with rwlock(
            str(path.parent),
            LocalFileSystem(),
            "dvc repro",
            [str(here / "raw")],
            [str(here / "clean")],
            False,
        ):  # as DVC writes it
            text = path.read_text()
        assert text.count(str(os.getpid())) == 2
        path.write_text(text.replace(f'"pid": {os.getpid()}', f'"pid": {number}'))
        stage_process.repair_dvc_locks(lambda line: None)
        assert path.exists() == stays
    zombie.wait()
