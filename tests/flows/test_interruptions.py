"""Flows that are killed, terminated or fail: nothing is lost, and the result is the same."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows import workspace as workspaces
from tests.flows.workspace import STAGES, Workspace

pytestmark = pytest.mark.slow


def test_a_flow_that_was_killed_five_times_ends_as_an_undisturbed_one(
    survivor: Workspace, promoted: Workspace
) -> None:
    assert survivor.processes() == []
    assert survivor.model() == promoted.model()
    survivor_status = survivor.status()
    assert survivor_status["generation"] == 1
    assert survivor_status["version"] == promoted.status()["version"]
    assert "resumed at step" in (survivor.root / "output.log").read_text()


def test_a_promotion_that_was_killed_before_its_journal_record_is_in_the_history(
    survivor: Workspace,
) -> None:
    records = json.loads(survivor.run("millrace", "history", "digits", "--json").stdout)["moves"]
    assert [(record["generation"], record["actor"]) for record in records] == [(1, "flow")]


def test_after_a_flow_from_cold_dvc_repro_runs_nothing(
    survivor: Workspace, reproduced: Workspace
) -> None:
    """The flow leaves the lock file that `dvc repro` would write."""
    assert survivor.lock() == reproduced.lock()
    done = survivor.run("dvc", "repro", "gate@digits")
    assert [line for line in done.stdout.splitlines() if "didn't change" in line] == [
        f"Stage '{name}@digits' didn't change, skipping" for name in STAGES
    ]
    assert survivor.lock() == reproduced.lock()


def test_an_error_that_may_pass_is_retried_as_the_stage_says(retried: Workspace) -> None:
    assert (retried.root / "attempts").read_text() == "xxx"
    assert retried.stages_run() == ["label"]


def test_a_prefect_server_shows_the_run_its_tasks_and_its_artifacts(
    server: str, retried: Workspace
) -> None:
    run = retried.record().run

    def query(kind: str) -> list[dict[str, Any]]:
        criteria = {"flow_runs": {"id": {"any_": [run]}}}
        return list(httpx.post(f"{server}/{kind}/filter", json=criteria).json())

    [shown] = query("flow_runs")
    assert shown["name"] == "digits"
    assert (shown["state_type"], shown["state_name"]) == ("COMPLETED", "Promoted")
    tasks = {
        task["name"].rpartition("-")[0]: (task["state_name"], task["run_count"])
        for task in query("task_runs")
    }
    assert tasks == {
        "label": ("Completed", 3),
        "gate against the champion": ("Completed", 1),
        "push": ("Completed", 1),
        "publish": ("Completed", 1),
        "validate": ("Completed", 1),
        "promote": ("Completed", 1),
    }
    assert {artifact["key"] for artifact in query("artifacts")} == {
        "digits-data",
        "digits-metrics",
        "digits-gate",
        "digits-card",
        "digits-version",
    }


def test_a_final_error_is_not_retried_and_its_sentence_ends_the_run(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    workspace.interrupt_label("raise StageError('the table of labels is empty: fill it.')")
    done = workspace.retrain(PREFECT_API_URL=server)
    assert (workspace.root / "attempts").read_text() == "x"
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "Failed: the table of labels is empty: fill it."
    record = workspace.record()
    assert record.outcome == "Failed"
    assert [entry.stage for entry in record.stages if entry.state == "failed"] == ["label@digits"]


def test_a_terminated_flow_ends_within_ten_seconds_and_leaves_no_process(
    reproduced: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = reproduced.copy(tmp_path)
    workspace.edit("recipes/digits.yaml", "epochs: 2", "epochs: 500")
    flow = workspace.start("millrace", "run", "digits", PREFECT_API_URL=server)
    workspaces.wait_for(
        lambda: (
            workspaces.find_stage_process(flow, "train") and workspaces.has_checkpoint(workspace)
        )
    )
    flow.terminate()
    assert flow.wait(10) != 0
    assert workspace.processes() == []
