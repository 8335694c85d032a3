"""Stages are forks of a prepared interpreter, and can be ended as any process can."""

import functools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.repo import Repo

from flows import prepared_process, stage_process
from flows.stage_process import ProcessResult
from tasks.core.errors import RetryableError, StageError
from tests.conftest import ROOT
from tests.flows.workspace import wait_for

pytestmark = pytest.mark.skipif(not prepared_process.IS_SUPPORTED, reason="forks only on Linux")
STAGE = """
import os, signal, sys, time
from pathlib import Path
from tasks.core import stage
from tasks.core.errors import RetryableError, StageError

def work(recipe):
    {statement}
    Path(f"out-{{recipe}}").write_text(recipe)

stage.main(work)
"""
# A stage that starts a process which ignores the polite signal, and waits.
HANG = """import subprocess
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code])
    Path("child").write_text(str(child.pid))
    print("begun", flush=True)
    time.sleep(60)"""


@pytest.fixture
def workspace(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with one stage `work` for each of two recipes, and no other stage."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(here / "site"))
    Repo.init(no_scm=True).close()
    definition = {
        "matrix": {"recipe": "${recipes}"},
        "cmd": "python -m tasks.work ${item.recipe}",
        "params": [{"work.yaml": ["${item.recipe}"]}],
        "outs": ["out-${item.recipe}"],
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": definition}}))
    Path("params.yaml").write_text(yaml.safe_dump({"recipes": ["one", "two"]}))
    Path("work.yaml").write_text("one: 1\ntwo: 2\n")
    Path("flows").symlink_to(ROOT / "flows")
    Path("tasks").mkdir()
    for path in (ROOT / "tasks").iterdir():
        Path("tasks", path.name).symlink_to(path)
    write_stage()
    yield here
    prepared_process.end_server()


def write_stage(statement: str = "pass") -> None:
    """Write the stage's module, which runs a statement first."""
    Path("tasks/work.py").write_text(STAGE.format(statement=statement))


def find_stage() -> psutil.Process | None:
    """Return the process of the stage, as `ps` shows it."""
    for process in psutil.Process().children(recursive=True):
        if process.cmdline()[-3:] == ["-m", "tasks.work", "one"]:
            return process
    return None


def run(
    recipe: str = "one",
    extra: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = print,
) -> ProcessResult:
    """Run the stage of a recipe."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "-s", f"work@{recipe}"]
    start = functools.partial(prepared_process.start_dvc, command, recipe=recipe, extra=extra or {})
    return stage_process.supervise(start, "work", 300, on_line)


def run_in_thread(outcome: list[BaseException]) -> threading.Thread:
    """Run the stage in a thread, which keeps its error."""

    def target() -> None:
        try:
            run()
        except StageError as error:
            outcome.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_the_lock_is_what_dvc_itself_writes(workspace: Path) -> None:
    for recipe in ("one", "two", "one"):
        Path("work.yaml").write_text(f"one: {os.urandom(2).hex()!r}\ntwo: 2\n")
        run(recipe)
    ours = Path("dvc.lock").read_text()
    Path("dvc.lock").unlink()
    with Repo() as repo:
        assert len(repo.reproduce()) == 2  # restored from the cache of runs
        assert Path("dvc.lock").read_text() == ours
        assert repo.reproduce() == []


def test_one_server_starts_all_and_ends_with_the_run(workspace: Path) -> None:
    run("one")
    [server] = prepared_process.SERVERS
    run("two")
    assert [server] == prepared_process.SERVERS
    prepared_process.end_server()
    assert not psutil.pid_exists(server.process.pid)


def test_a_stage_prints_and_sees_its_variables(workspace: Path) -> None:
    write_stage("print(os.environ['SHOWN'], sys.argv[1:], flush=True)")
    lines = run(extra={"SHOWN": "here"}).lines
    assert "here ['one']" in lines
    assert "Running stage 'work@one':" in lines


def test_code_that_changed_after_the_start_is_what_runs(workspace: Path) -> None:
    run("one")
    errors = Path("tasks/core")
    errors.unlink()
    shutil.copytree(ROOT / "tasks" / "core", errors)
    with (errors / "stage.py").open("a") as file:
        file.write("\nprint('the new code')\n")
    assert "the new code" in run("two").lines


@pytest.mark.parametrize(
    ("statement", "error", "sentence"),
    [
        ("raise StageError('no luck.')", StageError, "no luck."),
        ("raise RetryableError('bad line.')", RetryableError, "bad line."),
        ("os.kill(os.getpid(), signal.SIGKILL)", RetryableError, "out-of-memory"),
    ],
)
def test_how_a_stage_ends_is_told(
    workspace: Path, statement: str, error: type[StageError], sentence: str
) -> None:
    write_stage(statement)
    with pytest.raises(error, match=sentence) as caught:
        run()
    assert isinstance(caught.value, RetryableError) == (error is RetryableError)
    write_stage()
    assert "Running stage 'work@one':" in run().lines


def test_whatever_ends_a_run_ends_all_of_its_stage(workspace: Path) -> None:
    write_stage(HANG)

    def terminate(line: str) -> None:
        if line == "begun":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_line=terminate)
    assert not psutil.pid_exists(int(Path("child").read_text()))
    assert find_stage() is None


def test_a_run_goes_on_after_its_server_was_killed(workspace: Path) -> None:
    write_stage("Path('begun').touch(); time.sleep(60)")
    outcome: list[BaseException] = []
    thread = run_in_thread(outcome)
    wait_for(Path("begun").exists)
    stage = wait_for(find_stage)
    prepared_process.SERVERS[0].process.kill()
    stage.kill()
    thread.join(30)
    assert [type(error) for error in outcome] == [RetryableError]
    write_stage()
    assert "Running stage 'work@one':" in run().lines


def test_a_killed_run_leaves_a_stage_that_the_next_one_finds(workspace: Path) -> None:
    write_stage(HANG)
    code = "from tests.flows import test_prepared_process as test; test.run()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    flow = psutil.Popen([sys.executable, "-c", code], env=environment)
    wait_for(lambda: Path("child").exists())
    left = flow.children(recursive=True)
    flow.kill()
    flow.wait()
    assert any(stage_process.is_alive(process) for process in left)
    stage_process.end_orphan_processes(lambda line: None)
    assert not any(stage_process.is_alive(process) for process in left)
