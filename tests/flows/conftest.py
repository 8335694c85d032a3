"""Workspaces in which flows have run. They are shared, so a test that changes one copies it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from flows import embedded_s3, stage_process
from tests.flows import workspace as workspaces
from tests.flows.workspace import Workspace

SERVER_ENVIRONMENT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_ENABLED": "false",
}
# Ends the flow's process as kill -9 does, before it writes an object whose name holds CRASH_BEFORE.
CRASH = """import os, signal, sys
if "CRASH_BEFORE" in os.environ and any(word.endswith("/millrace") for word in sys.orig_argv):
    from tasks.storage.object_store import ObjectStore
    put_if_match = ObjectStore.put_if_match
    def dying(store, name, *arguments):
        if os.environ["CRASH_BEFORE"] in name:
            os.kill(os.getpid(), signal.SIGKILL)
        return put_if_match(store, name, *arguments)
    ObjectStore.put_if_match = dying
"""


@pytest.fixture(scope="package")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Returns a new folder with each call."""
    return lambda: tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="package")
def server(folders: Callable[[], Path]) -> Iterator[str]:
    """The address of the API of a real Prefect server."""
    home = folders()
    [port] = embedded_s3.find_free_ports(1)
    command = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    process = Workspace(home).start(*command, PREFECT_HOME=str(home), **SERVER_ENVIRONMENT)
    api = f"http://127.0.0.1:{port}/api"

    def answers() -> bool:
        assert process.poll() is None
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{api}/health").is_success
        return False

    try:
        workspaces.wait_for(answers, 180)
        yield api
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="package")
def cold(folders: Callable[[], Path]) -> Workspace:
    """Nothing has run here."""
    return workspaces.create_workspace(folders() / "workspace")


@pytest.fixture(scope="package")
def reproduced(cold: Workspace, folders: Callable[[], Path]) -> Workspace:
    """`dvc repro` has run all stages, and no flow has run."""
    workspace = cold.copy(folders())
    assert workspace.repro("gate@digits") == workspaces.STAGES
    return workspace


@pytest.fixture(scope="package")
def promoted(reproduced: Workspace, folders: Callable[[], Path]) -> Workspace:
    """A flow has promoted what `dvc repro` made, with the Prefect that comes with the flow."""
    workspace = reproduced.copy(folders())
    done = workspace.retrain()
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.record().outcome == "Promoted"
    return workspace


@pytest.fixture(scope="package")
def survivor(cold: Workspace, server: str, folders: Callable[[], Path]) -> Workspace:
    """The flow was killed in three stages and twice in its promotion, and started again."""
    workspace = cold.copy(folders())
    held = [
        workspaces.kill_flow(workspace, "clean", hold=True),
        workspaces.kill_flow(workspace, "train", hold=True, PREFECT_API_URL=server),
    ]
    workspaces.kill_flow(workspace, "evaluate", PREFECT_API_URL=server)
    assert not [process for process in held if stage_process.is_alive(process)]
    crash_promotion(workspace, server, "/evidence/", written="/versions/", missing="/channels/")
    crash_promotion(workspace, server, "/journal/", written="/channels/", missing="/journal/")
    done = workspace.retrain(PREFECT_API_URL=server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.record().outcome == "Unchanged"
    return workspace


def crash_promotion(
    workspace: Workspace, server: str, before: str, *, written: str, missing: str
) -> None:
    """Run a flow that is killed just before it writes an object of this kind."""
    injector = workspace.root.parent / "injector"
    injector.mkdir(exist_ok=True)
    (injector / "sitecustomize.py").write_text(CRASH)
    flow = workspace.start(
        "millrace",
        "run",
        "digits",
        PREFECT_API_URL=server,
        PYTHONPATH=f"{injector}{os.pathsep}{workspace.root}",
        CRASH_BEFORE=before,
    )
    assert flow.wait(300) == -signal.SIGKILL
    objects = workspace.objects()
    assert any(written in name for name in objects)
    assert not any(missing in name for name in objects)


@pytest.fixture(scope="package")
def retried(reproduced: Workspace, server: str, folders: Callable[[], Path]) -> Workspace:
    """The stage `label` failed twice with an error that may pass, under a policy of two retries."""
    workspace = reproduced.copy(folders())
    workspace.interrupt_label("if attempts < 3: raise RetryableError('the connection was lost.')")
    done = workspace.retrain(PREFECT_API_URL=server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.record().outcome == "Promoted"
    return workspace
