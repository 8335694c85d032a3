"""The whole pipeline as a person runs it: real DVC, Prefect and S3, in workspaces of their own, with a small recipe and kills at bad moments."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from flows import embedded_s3, stage_process
from tasks.storage import files, hashing
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
OURS = ("MILLRACE_", "PREFECT_", "DVC_", "AWS_", "PYTHONDONTWRITEBYTECODE")
STAGES = [
    "resolve",
    "ingest",
    "check_raw",
    "clean",
    "label",
    "split",
    "check_ready",
    "pretrain",
    "tune",
    "train",
    "evaluate",
    "gate",
]
DIGITS = """name: digits
modality: image
ingest: {kind: package, name: sklearn.digits}
columns: {id: id}
train: {epochs: 2, checkpoint_seconds: 0.2}
gate:
  - {rule: floor, metric: accuracy, bound: 0.3}
  - {rule: champion, metric: accuracy, margin: 0.2}
"""
TINY = """name: tiny
modality: text
ingest: {kind: files, path: data/sources/tiny.csv}
columns: {id: id}
split: {val: 0.2, test: 0.3}
gate: [{rule: floor, metric: accuracy, bound: 0.5}]
"""
# Ends the flow's process as kill -9 does, just before it writes an object whose name holds CRASH_BEFORE.
CRASH = """import os, signal, sys
if "CRASH_BEFORE" in os.environ and any(word.endswith("/millrace") for word in sys.orig_argv):
    from tasks import registry
    once = registry.once
    def dying(store, name, data):
        if os.environ["CRASH_BEFORE"] in name:
            os.kill(os.getpid(), signal.SIGKILL)
        once(store, name, data)
    registry.once = dying
"""


@dataclass(frozen=True)
class Workspace:
    """A copy of the repository with recipes of its own."""

    root: Path

    def environment(self, extra: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        ours = {
            "PATH": path,
            "PYTHONPATH": str(self.root),
            "DVC_SITE_CACHE_DIR": str(self.root.parent / "site"),
            "OMP_NUM_THREADS": "1",
        }
        return {**kept, **ours, **extra}

    def run(self, *command: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(extra),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def start(self, *command: str, **extra: str) -> "subprocess.Popen[bytes]":
        with (self.root / "output.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=self.environment(extra), stdout=log, stderr=log
            )

    def copy(self, to: Path) -> "Workspace":
        return Workspace(Path(shutil.copytree(self.root, to / "workspace")))

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert text.count(old) == 1
        (self.root / path).write_text(text.replace(old, new))

    def repro(self, target: str) -> list[str]:
        """The stages that `dvc repro` ran."""
        done = self.run("dvc", "repro", target)
        assert done.returncode == 0, done.stderr
        return [
            line.split("'")[1].partition("@")[0]
            for line in done.stdout.splitlines()
            if line.startswith("Running stage")
        ]

    def lock(self) -> str:
        """The lock file, without the hashes and sizes of what holds what a clock said."""
        return re.sub(
            r"(/evaluation/(?:cost.json|report.html)\n).*\n.*\n.*\n",
            r"\1",
            (self.root / "dvc.lock").read_text(),
        )

    def record(self) -> dict[str, Any]:
        """The newest run record."""
        found: dict[str, Any] = json.loads(
            max(
                (self.root / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns
            ).read_text()
        )
        return found

    def ran(self) -> list[str]:
        """The stages that the newest flow did not find as they should be."""
        return [
            stage["stage"].partition("@")[0]
            for stage in self.record()["stages"]
            if stage["state"] != "cached"
        ]

    def status(self) -> Any:
        return json.loads(self.run("millrace", "status", "digits", "--json").stdout)

    def model(self) -> dict[str, str]:
        folder = self.root / "data" / "digits" / "model"
        return {
            str(path.relative_to(folder)): hashing.sha256(path)
            for path in folder.rglob("*")
            if path.is_file()
        }

    def objects(self, under: str = "digits/") -> list[str]:
        """The names of all that the store holds for the recipe."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root)
            for name in os.environ:
                if name.startswith(OURS):
                    patch.delenv(name)
            with embedded_s3.open_store() as store:
                return list(store.list_names(under))

    def processes(self) -> list[str]:
        """Every process that works in this workspace or was started by a run of it."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if one.pid != os.getpid() and str(self.root) in (
                    one.cwd(),
                    one.environ().get(stage_process.WORKSPACE_VARIABLE),
                ):
                    found.append(" ".join(one.cmdline())[:100])
        return found


def until(found: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise TimeoutError


def stage_of(flow: "subprocess.Popen[bytes]", name: str) -> psutil.Process | None:
    """The process of the step itself, two below the flow's."""
    assert flow.poll() is None
    with contextlib.suppress(psutil.Error):
        return next(
            (
                one
                for one in psutil.Process(flow.pid).children(recursive=True)
                if one.cmdline()[-2:] == [f"tasks.{name}", "digits"]
            ),
            None,
        )
    return None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    return lambda: tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def server(folders: Callable[[], Path]) -> Iterator[str]:
    """The address of the API of a real Prefect server."""
    home = folders()
    [port] = embedded_s3.find_free_ports(1)
    environment = {
        "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_SERVER_UI_ENABLED": "false",
    }  # fmt: skip
    started = Workspace(home).start(
        "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), **environment
    )
    api = f"http://127.0.0.1:{port}/api"

    def answers() -> bool:
        assert started.poll() is None
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{api}/health").is_success
        return False

    try:
        until(answers, 180)
        yield api
    finally:
        started.send_signal(signal.SIGINT)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@pytest.fixture(scope="module")
def cold(folders: Callable[[], Path]) -> Workspace:
    """Nothing has run here."""
    root = folders() / "workspace"
    for name in ("tasks", "flows", ".dvc"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("tmp", "cache", "config.local")
        )
    for name in ("dvc.yaml", "constraints.txt", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    for name in ("recipes", "data/sources"):
        (root / name).mkdir(parents=True)
    (root / "params.yaml").write_text("recipes: [digits, tiny]\n")
    for name in ("digits", "tiny"):
        (root / "data" / name).mkdir()
        (root / "data" / name / "erase.csv").write_text("id\n")
    (root / "recipes" / "digits.yaml").write_text(DIGITS)
    (root / "recipes" / "tiny.yaml").write_text(TINY)
    words = [
        "the invoice has a mistake",
        "my password is lost",
        "please send the bill",
        "a login fails",
    ]
    rows = [
        f"r{number:02d},{words[number % 4]} number {number * 7919},{'account' if number % 2 else 'money'}"
        for number in range(40)
    ]
    (root / "data" / "sources" / "tiny.csv").write_text("\n".join(["id,text,label", *rows, ""]))
    workspace = Workspace(root)
    assert workspace.run("dvc", "config", "core.no_scm", "true").returncode == 0
    return workspace


@pytest.fixture(scope="module")
def reproduced(cold: Workspace, folders: Callable[[], Path]) -> Workspace:
    """`dvc repro` has run all stages, and no flow."""
    workspace = cold.copy(folders())
    assert workspace.repro("gate@digits") == STAGES
    return workspace


@pytest.fixture(scope="module")
def promoted(reproduced: Workspace, folders: Callable[[], Path]) -> Workspace:
    """A flow has promoted what `dvc repro` made, with the Prefect that comes with the flow."""
    workspace = reproduced.copy(folders())
    done = workspace.run("millrace", "run", "digits")
    assert (done.returncode, workspace.record()["outcome"]) == (0, "Promoted"), (
        done.stdout + done.stderr
    )
    return workspace


@pytest.fixture(scope="module")
def survivor(cold: Workspace, server: str, folders: Callable[[], Path]) -> Workspace:
    """The flow was killed in the middle of three stages and twice in its promotion, and started again each time."""
    workspace = cold.copy(folders())

    def killed(
        reached: Callable[["subprocess.Popen[bytes]"], psutil.Process | None],
        hold: bool,
        **extra: str,
    ) -> psutil.Process:
        """Run the flow up to this point and kill its process alone; its stage is left behind, and with `hold` does not end by itself."""
        flow = workspace.start("millrace", "run", "digits", **extra)
        stage: psutil.Process = until(lambda: reached(flow))
        if hold:
            stage.suspend()
        flow.kill()
        flow.wait()
        assert stage_process.is_alive(stage)
        return stage

    def training(flow: "subprocess.Popen[bytes]") -> psutil.Process | None:
        return (
            stage_of(flow, "train")
            if list(workspace.root.glob("checkpoints/digits/*/0*"))
            else None
        )

    held = [
        killed(lambda flow: stage_of(flow, "clean"), hold=True),
        killed(training, hold=True, PREFECT_API_URL=server),
    ]
    killed(lambda flow: stage_of(flow, "evaluate"), hold=False, PREFECT_API_URL=server)
    assert not [stage for stage in held if stage_process.is_alive(stage)]
    injector = workspace.root.parent / "injector"
    injector.mkdir()
    (injector / "sitecustomize.py").write_text(CRASH)
    path = f"{injector}{os.pathsep}{workspace.root}"
    for name, there, missing in (
        ("/evidence/", "/versions/", "/channels/"),
        ("/journal/", "/channels/", "/journal/"),
    ):
        flow = workspace.start(
            "millrace", "run", "digits", PREFECT_API_URL=server, PYTHONPATH=path, CRASH_BEFORE=name
        )
        assert flow.wait(120) == -signal.SIGKILL
        objects = workspace.objects()
        assert any(there in one for one in objects)
        assert not any(missing in one for one in objects)
    done = workspace.run("millrace", "run", "digits", PREFECT_API_URL=server)
    assert (done.returncode, workspace.record()["outcome"]) == (0, "Unchanged"), (
        done.stdout + done.stderr
    )
    return workspace


@pytest.fixture(scope="module")
def retried(promoted: Workspace, server: str, folders: Callable[[], Path]) -> Workspace:
    """A flow whose label step failed twice with an error that may pass, under a policy of two retries."""
    workspace = promoted.copy(folders())
    interrupt_label(workspace, "if attempts < 3: raise Retryable('the connection was lost.')")
    done = workspace.run("millrace", "run", "digits", PREFECT_API_URL=server)
    assert (done.returncode, workspace.record()["outcome"]) == (0, "Promoted"), (
        done.stdout + done.stderr
    )
    return workspace


def interrupt_label(workspace: Workspace, statement: str) -> None:
    """Let the label step note each attempt by one letter in the file `attempts` and then do this, under a policy of two quick retries."""
    begin = "    folder = files.folder_of(name)\n"
    note = "    with open('attempts', 'a') as file:\n        file.write('x')\n        attempts = file.tell()\n"
    workspace.edit(
        "tasks/label.py",
        "from tasks.step import Failure, main",
        "from tasks.step import Failure, Retryable, main",
    )
    workspace.edit("tasks/label.py", begin, f"{note}    {statement}\n{begin}")
    path = workspace.root / "dvc.yaml"
    pipeline = yaml.safe_load(path.read_text())
    pipeline["stages"]["label"]["meta"] |= {"retries": 2, "backoff": [0.1, 0.1]}
    path.write_text(yaml.safe_dump(pipeline))


def test_after_dvc_repro_the_flow_runs_no_stage_promotes_and_leaves_the_lock_file_alone(
    reproduced: Workspace, promoted: Workspace
) -> None:
    record = promoted.record()
    assert [stage["stage"] for stage in record["stages"]] == [f"{name}@digits" for name in STAGES]
    assert promoted.ran() == []
    assert promoted.lock() == reproduced.lock()


def test_a_second_flow_runs_nothing_and_ends_unchanged(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    done = workspace.run("millrace", "run", "digits", PREFECT_API_URL=server)
    assert (done.returncode, workspace.record()["outcome"], workspace.ran()) == (0, "Unchanged", [])
    assert workspace.lock() == promoted.lock()
    shown = httpx.get(f"{server}/flow_runs/{workspace.record()['run']}").json()
    assert (shown["name"], shown["state_name"]) == ("digits", "Unchanged")


def test_a_flow_that_was_killed_in_three_stages_and_twice_in_its_promotion_ends_as_an_undisturbed_one(
    survivor: Workspace, promoted: Workspace
) -> None:
    assert survivor.processes() == []
    assert survivor.model() == promoted.model()
    mine, other = survivor.status(), promoted.status()
    assert (mine["generation"], mine["version"]) == (1, other["version"])
    assert "resumed at step" in (survivor.root / "output.log").read_text()


def test_a_promotion_that_was_killed_before_its_journal_record_is_in_the_history(
    survivor: Workspace,
) -> None:
    moves = json.loads(survivor.run("millrace", "history", "digits", "--json").stdout)
    assert [(move["generation"], move["actor"]) for move in moves] == [(1, "flow")]


def test_after_a_flow_from_cold_dvc_repro_runs_nothing_and_the_lock_file_is_the_one_that_it_would_write(
    survivor: Workspace, reproduced: Workspace
) -> None:
    assert survivor.lock() == reproduced.lock()
    done = survivor.run("dvc", "repro", "gate@digits")
    assert [line for line in done.stdout.splitlines() if "didn't change" in line] == [
        f"Stage '{name}@digits' didn't change, skipping" for name in STAGES
    ]
    assert survivor.lock() == reproduced.lock()


def test_an_edit_runs_what_depends_on_it_and_nothing_else(
    reproduced: Workspace, tmp_path: Path
) -> None:
    workspace = reproduced.copy(tmp_path)
    with (workspace.root / "tasks" / "duplicates.py").open("a") as file:
        file.write("# a remark\n")
    assert workspace.repro("gate@digits") == [
        "clean",
        "label",
        "split",
        "check_ready",
        "pretrain",
        "gate",
    ]  # which use it; their rows are as before, so the others stay
    workspace.edit("recipes/digits.yaml", "bound: 0.3", "bound: 0.4")
    assert workspace.repro("gate@digits") == ["resolve", "gate"]
    workspace.edit("recipes/digits.yaml", "epochs: 2", "epochs: 1")
    assert workspace.repro("gate@digits") == ["resolve", "tune", "train", "evaluate", "gate"]
    assert workspace.repro("gate@digits") == []


def test_an_edited_row_runs_all_that_reads_it_and_nothing_of_another_recipe(
    reproduced: Workspace, tmp_path: Path
) -> None:
    workspace = reproduced.copy(tmp_path)
    until_split = ["resolve", "ingest", "check_raw", "clean", "label", "split"]
    assert workspace.repro("split@tiny") == until_split
    workspace.edit(
        "data/sources/tiny.csv", "the invoice has a mistake number 0,", "the invoice is wrong,"
    )
    assert workspace.repro("split@tiny") == until_split
    assert workspace.repro("gate@digits") == [
        "resolve"
    ]  # it fingerprints the folder of sources, and finds its own as they were


def test_explain_says_what_a_run_would_do_and_which_versions_know_erased_rows(
    promoted: Workspace, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    rows = {
        side: files.read_table(workspace.root / "data" / "digits" / "split" / f"{side}.parquet")[
            "id"
        ].to_pylist()
        for side in ("train", "test")
    }
    (workspace.root / "data" / "digits" / "erase.csv").write_text(
        f"id\n{rows['train'][0]}\n{rows['test'][0]}\n"
    )
    told = json.loads(workspace.run("millrace", "explain", "digits", "--json").stdout)
    assert [stage["stage"] for stage in told["stages"] if stage["why"]] == ["ingest"]
    assert told["erased"] == {
        "ids": 2,
        "in_production": told["erased"]["in_production"],
        "versions": {told["erased"]["in_production"]: 1},
    }
    assert "1 of 2" in workspace.run("millrace", "explain", "digits").stdout


def test_a_rejected_model_ends_with_status_3_and_leaves_production_alone(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    workspace.edit("recipes/digits.yaml", "bound: 0.3", "bound: 1.0")
    done = workspace.run("millrace", "run", "digits", PREFECT_API_URL=server)
    assert (done.returncode, workspace.record()["outcome"], workspace.ran()) == (
        3,
        "Rejected",
        ["resolve", "gate"],
    )
    accuracy = json.loads((workspace.root / "data/digits/evaluation/metrics.json").read_text())[
        "accuracy"
    ]["value"]
    assert f"accuracy {accuracy:.4f} must be at least 1." in done.stdout.splitlines()[-1]
    assert workspace.status() == promoted.status()


def test_an_unknown_recipe_is_a_mistake_with_one_sentence(cold: Workspace) -> None:
    done = cold.run("millrace", "run", "digit")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "error: 'digit' is not a registered recipe (did you mean digits?). Registered: digits, tiny."
    )


CLOSED = "http://127.0.0.1:9"  # where no proxy listens


def without_source(cold: Workspace, folder: Path) -> Workspace:
    """A workspace in which a run of `tiny` ends at its first stage, after Prefect, the store and DVC have begun."""
    workspace = cold.copy(folder)
    (workspace.root / "data" / "sources" / "tiny.csv").unlink()
    return workspace


def test_a_run_asks_no_proxy_for_what_is_on_this_machine(cold: Workspace, tmp_path: Path) -> None:
    workspace = without_source(cold, tmp_path)
    done = workspace.run(
        "millrace",
        "run",
        "tiny",
        NO_PROXY="",
        no_proxy="",
        HTTP_PROXY=CLOSED,
        HTTPS_PROXY=CLOSED,
        ALL_PROXY=CLOSED,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert re.fullmatch(r"Failed: .*data/sources/tiny\.csv.*", done.stdout.splitlines()[-1])
    assert workspace.objects("tiny/runs/") == [f"tiny/runs/{workspace.record()['run']}.json"]


def test_a_proxy_in_small_letters_is_not_asked_either(cold: Workspace, tmp_path: Path) -> None:
    workspace = cold.copy(tmp_path)
    done = workspace.run(
        "millrace",
        "status",
        "tiny",
        NO_PROXY="",
        no_proxy="",
        http_proxy=CLOSED,
        https_proxy=CLOSED,
        all_proxy=CLOSED,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny: nothing is in production yet.")


def test_dvc_alone_needs_nothing_of_a_proxy_that_does_not_answer(
    cold: Workspace, tmp_path: Path
) -> None:
    workspace = cold.copy(tmp_path)
    done = workspace.run(
        "dvc",
        "repro",
        "ingest@tiny",
        NO_PROXY="",
        no_proxy="",
        HTTP_PROXY=CLOSED,
        HTTPS_PROXY=CLOSED,
        ALL_PROXY=CLOSED,
    )
    assert done.returncode == 0, done.stderr


def test_a_proxy_that_is_not_understood_ends_a_run_with_a_sentence(cold: Workspace) -> None:
    done = cold.run("millrace", "run", "tiny", ALL_PROXY="socks://secret@127.0.0.1:9")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(
        "error: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a proxy of a kind that Prefect's client does not speak"
    )
    assert "secret" not in line


def test_a_prefect_server_that_does_not_answer_in_time_is_one_sentence(
    cold: Workspace, tmp_path: Path
) -> None:
    workspace = cold.copy(tmp_path)
    done = workspace.run(
        "millrace", "run", "tiny", PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="1"
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(
        "error: Prefect's temporary server did not answer in time (PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS is 1)"
    )
    assert workspace.processes() == []


def test_a_failure_that_may_pass_is_retried_as_the_stage_says_and_the_run_completes(
    retried: Workspace,
) -> None:
    assert (retried.root / "attempts").read_text() == "xxx"
    assert retried.ran() == ["label"]


def test_a_prefect_server_shows_the_run_its_tasks_and_its_artifacts(
    server: str, retried: Workspace
) -> None:
    run = retried.record()["run"]

    def listed(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.post(
            f"{server}/{kind}/filter", json={"flow_runs": {"id": {"any_": [run]}}}
        ).json()
        return found

    [shown] = listed("flow_runs")
    assert (shown["name"], shown["state_type"], shown["state_name"]) == (
        "digits",
        "COMPLETED",
        "Promoted",
    )
    tasks = {
        one["name"].rpartition("-")[0]: (one["state_name"], one["run_count"])
        for one in listed("task_runs")
    }
    assert tasks == {
        "label": ("Completed", 3),
        "gate against the champion": ("Completed", 1),
        "push": ("Completed", 1),
        "promote": ("Completed", 1),
    }
    assert {one["key"] for one in listed("artifacts")} == {
        "digits-data",
        "digits-metrics",
        "digits-gate",
        "digits-card",
        "digits-version",
    }


def test_a_final_failure_is_not_retried_and_its_sentence_ends_the_run(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    interrupt_label(workspace, "raise Failure('the table of labels is empty: fill it.')")
    done = workspace.run("millrace", "run", "digits", PREFECT_API_URL=server)
    assert (workspace.root / "attempts").read_text() == "x"
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "Failed: the table of labels is empty: fill it."
    assert workspace.record()["outcome"] == "Failed"


def test_a_terminated_flow_ends_within_ten_seconds_and_leaves_no_process(
    reproduced: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = reproduced.copy(tmp_path)
    workspace.edit("recipes/digits.yaml", "epochs: 2", "epochs: 500")
    flow = workspace.start("millrace", "run", "digits", PREFECT_API_URL=server)
    until(lambda: stage_of(flow, "train") and list(workspace.root.glob("checkpoints/digits/*/0*")))
    flow.terminate()
    assert flow.wait(10) != 0
    assert workspace.processes() == []


def test_snapshots_of_the_data_are_compared_pushed_and_brought_back_with_dvc(
    cold: Workspace, tmp_path: Path
) -> None:
    workspace = cold.copy(tmp_path)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    (workspace.root / ".gitignore").write_text("/data/*/*\n!/data/sources/*\n!/data/*/erase.csv\n")
    for command in (
        ("git", "init", "-q"), ("dvc", "config", "--unset", "core.no_scm"), ("dvc", "remote", "add", "-q", "-d", "elsewhere", str(tmp_path / "remote")),
    ):  # fmt: skip
        assert workspace.run(*command).returncode == 0
    assert workspace.repro("ingest@tiny") == ["resolve", "ingest"]
    assert (
        workspace.run(*git, "add", "-A").returncode
        == workspace.run(*git, "commit", "-qm", "first").returncode
        == 0
    )
    with (workspace.root / "data" / "sources" / "tiny.csv").open("a") as file:
        file.write("new,one more invoice,money\n")
    assert workspace.repro("ingest@tiny") == ["resolve", "ingest"]
    compared = json.loads(workspace.run("dvc", "diff", "--json", "HEAD").stdout)
    assert "data/tiny/raw/snapshot.json" in [change["path"] for change in compared["modified"]]
    assert workspace.run("dvc", "push", "resolve@tiny", "ingest@tiny").returncode == 0
    newest = (workspace.root / "dvc.lock").read_bytes()
    (workspace.root / "dvc.lock").write_text(workspace.run("git", "show", "HEAD:dvc.lock").stdout)
    assert workspace.run("dvc", "checkout", "ingest@tiny").returncode == 0
    assert files.read_json(workspace.root / "data" / "tiny" / "raw" / "snapshot.json")["rows"] == 40
    (workspace.root / "dvc.lock").write_bytes(newest)
    shutil.rmtree(workspace.root / ".dvc" / "cache")
    shutil.rmtree(workspace.root / "data" / "tiny" / "raw")
    assert workspace.run("dvc", "pull", "ingest@tiny").returncode == 0
    assert files.read_json(workspace.root / "data" / "tiny" / "raw" / "snapshot.json")["rows"] == 41
