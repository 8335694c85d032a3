"""Runs as a person starts them: which stages run, what is promoted and what is unchanged."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
import yaml

from tasks.contracts.evaluation import Evaluation
from tasks.storage import files
from tests.flows.workspace import STAGES, TINY, Workspace

pytestmark = pytest.mark.slow

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")


def test_after_dvc_repro_the_flow_runs_no_stage_and_promotes(
    reproduced: Workspace, promoted: Workspace
) -> None:
    addresses = [entry.stage for entry in promoted.record().stages]
    assert addresses == [f"{name}@digits" for name in STAGES]
    assert promoted.stages_run() == []
    assert promoted.lock() == reproduced.lock()


def test_a_second_flow_runs_nothing_and_ends_unchanged(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    done = workspace.retrain(PREFECT_API_URL=server)
    assert done.returncode == 0
    record = workspace.record()
    assert record.outcome == "Unchanged"
    assert workspace.stages_run() == []
    assert workspace.lock() == promoted.lock()
    shown = httpx.get(f"{server}/flow_runs/{record.run}").json()
    assert (shown["name"], shown["state_name"]) == ("digits", "Unchanged")


def test_edits_that_change_no_byte_of_the_model_end_unchanged(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    """A comment in code, a recipe or a source that was added elsewhere: the version stays."""
    workspace = promoted.copy(tmp_path)
    (workspace.root / "recipes" / "other.yaml").write_text(TINY.replace("tiny", "other"))
    (workspace.root / "data" / "sources" / "other.csv").write_text("id,text,label\n")
    for module in ("cleaning/duplicates.py", "training/loop.py"):
        workspace.append(f"tasks/{module}", "# a remark\n")
    done = workspace.retrain(PREFECT_API_URL=server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"resolve", "clean", "train"} <= set(workspace.stages_run())
    assert workspace.record().outcome == "Unchanged"
    assert workspace.record().version == promoted.record().version
    assert workspace.status() == promoted.status()


def test_the_provenance_names_code_and_data_of_each_stage(promoted: Workspace) -> None:
    provenance = promoted.status()["provenance"]
    assert set(provenance["stages"]) == {f"{name}@digits" for name in STAGES}
    train = provenance["stages"]["train@digits"]
    assert {"tasks/train.py", "data/digits/split"} <= set(train["deps"])
    lock = yaml.safe_load((promoted.root / "dvc.lock").read_text())
    [model] = lock["stages"]["train@digits"]["outs"]
    assert train["outs"] == {"data/digits/model": model["md5"]}
    assert provenance["run"] == promoted.record().run


def test_an_edit_runs_what_depends_on_it_and_nothing_else(
    reproduced: Workspace, tmp_path: Path
) -> None:
    workspace = reproduced.copy(tmp_path)
    module = "tasks/rows/near_duplicates.py"
    stages = yaml.safe_load((workspace.root / "dvc.yaml").read_text())["stages"]
    users = [name for name in STAGES if is_below(module, stages[name]["deps"])]
    assert "clean" in users
    assert "train" not in users
    workspace.append(module, "# a remark\n")
    assert workspace.repro("gate@digits") == users
    workspace.edit("recipes/digits.yaml", "bound: 0.3", "bound: 0.4")
    assert workspace.repro("gate@digits") == ["resolve", "gate"]
    workspace.edit("recipes/digits.yaml", "epochs: 2", "epochs: 1")
    assert workspace.repro("gate@digits") == ["resolve", "tune", "train", "evaluate", "gate"]
    assert workspace.repro("gate@digits") == []


def is_below(module: str, paths: list[str]) -> bool:
    """Return whether a module, or a folder above it, is among the paths."""
    return any(module.startswith(path) for path in paths)


def test_an_edited_row_runs_all_that_reads_it_and_nothing_of_another_recipe(
    reproduced: Workspace, tmp_path: Path
) -> None:
    workspace = reproduced.copy(tmp_path)
    until_split = STAGES[: STAGES.index("split") + 1]
    assert workspace.repro("split@tiny") == until_split
    workspace.edit(
        "data/sources/tiny.csv", "the invoice has a mistake number 0,", "the invoice is wrong,"
    )
    assert workspace.repro("split@tiny") == until_split
    # The folder of sources has changed, so `resolve` looks at it, and finds its own unchanged.
    assert workspace.repro("gate@digits") == ["resolve"]


def test_explain_shows_what_would_run_and_which_versions_know_erased_rows(
    promoted: Workspace, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    split = workspace.paths().split
    erased = [files.read_table(path)["id"][0].as_py() for path in (split.train, split.test)]
    workspace.paths().erased_ids.write_text("\n".join(["id", *erased]) + "\n")
    content = json.loads(workspace.run("millrace", "explain", "digits", "--json").stdout)
    states = {stage["stage"]: stage["state"] for stage in content["stages"]}
    assert states["resolve"] == "up to date"
    assert states["ingest"] == "would run"
    assert states["gate"] == "may run"
    version = promoted.status()["version"]
    assert content["erased"] == {"ids": 2, "in_production": version, "versions": {version: 1}}
    assert "1 of 2" in workspace.run("millrace", "explain", "digits").stdout


def test_a_rejected_model_ends_with_status_3_and_leaves_production_alone(
    promoted: Workspace, server: str, tmp_path: Path
) -> None:
    workspace = promoted.copy(tmp_path)
    workspace.edit("recipes/digits.yaml", "bound: 0.3", "bound: 1.0")
    done = workspace.retrain(PREFECT_API_URL=server)
    assert done.returncode == 3
    assert workspace.record().outcome == "Rejected"
    assert workspace.stages_run() == ["resolve", "gate"]
    accuracy = Evaluation.read(workspace.paths().evaluation.metrics).metrics["accuracy"].value
    assert f"accuracy {accuracy:.4f} must be at least 1." in done.stdout.splitlines()[-1]
    assert workspace.status() == promoted.status()


def test_snapshots_of_the_data_are_compared_pushed_and_brought_back_with_dvc(
    cold: Workspace, tmp_path: Path
) -> None:
    workspace = cold.copy(tmp_path)
    snapshot = workspace.paths("tiny").raw.snapshot
    put_under_version_control(workspace, tmp_path / "remote")
    workspace.append("data/sources/tiny.csv", "new,one more invoice,money\n")
    assert workspace.repro("ingest@tiny") == ["resolve", "ingest"]

    difference = json.loads(workspace.run("dvc", "diff", "--json", "HEAD").stdout)
    changed = [change["path"] for change in difference["modified"]]
    assert "data/tiny/raw/snapshot.json" in changed
    assert workspace.run("dvc", "push", "resolve@tiny", "ingest@tiny").returncode == 0

    lock = workspace.root / "dvc.lock"
    newest = lock.read_bytes()
    lock.write_text(workspace.run("git", "show", "HEAD:dvc.lock").stdout)
    assert workspace.run("dvc", "checkout", "ingest@tiny").returncode == 0
    assert files.read_json(snapshot)["rows"] == 40

    lock.write_bytes(newest)
    shutil.rmtree(workspace.root / ".dvc" / "cache")
    shutil.rmtree(snapshot.parent)
    assert workspace.run("dvc", "pull", "ingest@tiny").returncode == 0
    assert files.read_json(snapshot)["rows"] == 41


def put_under_version_control(workspace: Workspace, remote: Path) -> None:
    """Make the workspace a git repository with a DVC remote and a first snapshot."""
    (workspace.root / ".gitignore").write_text("/data/*/*\n!/data/sources/*\n!/data/*/erase.csv\n")
    for command in (
        ("git", "init", "-q"),
        ("dvc", "config", "--unset", "core.no_scm"),
        ("dvc", "remote", "add", "-q", "-d", "elsewhere", str(remote)),
    ):
        assert workspace.run(*command).returncode == 0
    assert workspace.repro("ingest@tiny") == ["resolve", "ingest"]
    assert workspace.run(*GIT, "add", "-A").returncode == 0
    assert workspace.run(*GIT, "commit", "-qm", "first").returncode == 0
