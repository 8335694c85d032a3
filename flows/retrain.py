"""Retrain: run a recipe's stages, judge the result against what is in production, and promote it where the verdict allows.

Each stage of dvc.yaml is one task. DVC is the only cache; Prefect retries, limits, shows.
"""

import contextlib
import datetime
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import artifacts, embedded_s3, promotion, stage_process, stage_task
from flows.dvc_graph import Pipeline
from tasks.core.errors import StageError
from tasks.recipe import resolved
from tasks.recipe.loading import load_recipe
from tasks.registry import channel_pointer, local_champion, manifests
from tasks.storage import files
from tasks.storage.locks import file_lock
from tasks.storage.object_store import ObjectStore

WORKSPACE_LOCK = Path(".millrace/lock")
RUNS_FOLDER = Path("runs")
MAX_ROUNDS = 3  # gates against a champion that moved while we judged


@flow(name="retrain", flow_run_name="{recipe}", log_prints=True)
def retrain(recipe: str, override: dict[str, str] | None = None) -> State:
    """Retrain, judge and promote one registered recipe. Ends as Promoted, Unchanged, Rejected, Inconclusive, Superseded, or failed with a sentence.

    With `override`, an actor and a reason, no stage runs, and what was judged is promoted whatever the verdict was.
    """
    run = str(flow_run.get_id() or "local")
    record: dict[str, Any] = {
        "run": run,
        "recipe": recipe,
        "started": format_utc_now(),
        "commit": read_git_commit(),
        "stages": [],
    }
    path = RUNS_FOLDER / f"{run}.json"
    try:
        with lock_workspace(), embedded_s3.open_store() as store:
            try:
                outcome, message = run_and_promote(store, recipe, run, record, override)
            except StageError as failure:
                outcome, message = "Failed", str(failure)
            files.write_json(
                path, record | {"outcome": outcome, "message": message, "ended": format_utc_now()}
            )
            store.upload(f"{recipe}/runs/{path.name}", path)
    except StageError as failure:
        outcome, message = "Failed", str(failure)
        files.write_json(
            path, record | {"outcome": outcome, "message": message, "ended": format_utc_now()}
        )
    return (
        Failed(message=message) if outcome == "Failed" else Completed(name=outcome, message=message)
    )


def run_and_promote(
    store: ObjectStore,
    recipe: str,
    run: str,
    record: dict[str, Any],
    override: dict[str, str] | None,
) -> tuple[str, str]:
    """The run itself; returns the flow's state and its reason."""
    said = load_recipe(recipe)
    if local_champion.is_champion_needed(said) and not override:
        promotion.fetch_champion(store, recipe, said.promote.channel)
    pipeline = Pipeline()
    stages = pipeline.stages(recipe)
    stage_task.restore_outputs(recipe, stages)
    for stage in stages if not override else ():
        why, begun = pipeline.stale_reasons(stage), time.monotonic()
        entry: dict[str, Any] = {
            "stage": stage.address,
            "state": "failed" if why else "cached",
            "why": why,
            "seconds": 0.0,
        }
        record["stages"].append(entry)
        if stage.name == "ingest" and not why:
            get_run_logger().info(
                "%s (unchanged since the last run)", artifacts.describe_source_rows(recipe)
            )
        if why:
            options: dict[str, Any] = {
                "name": stage.name,
                "retries": stage.retries,
                "retry_delay_seconds": stage.backoff or None,
                "tags": stage.tags,
            }
            try:
                entry |= stage_task.run_stage.with_options(**options)(stage, why)
            except StageError:
                entry["seconds"] = round(time.monotonic() - begun, 2)
                raise
    channel = files.read_json(resolved.resolved_path(recipe))["promote"]["channel"]
    manifest = promotion.build_manifest(recipe, stages)
    version = manifests.derive_version(manifest)
    record |= {
        "version": version,
        "channel": channel,
        "warnings": artifacts.publish_artifacts(recipe),
    }
    for _ in range(MAX_ROUNDS):
        champion = channel_pointer.read_pointer(store, recipe, channel)
        if champion and champion.version == version:
            return (
                "Unchanged",
                f"{recipe} {version} is in production already (generation {champion.generation}).",
            )
        verdict = promotion.judge_candidate(store, recipe, version, champion, override)
        if verdict["model_sha256"] != {
            name: about["sha256"] for name, about in json.loads(manifest)["files"].items()
        }:
            raise StageError(
                f"The gate judged other files than those of {recipe} {version}: run `dvc repro gate@{recipe}`; nothing was promoted."
            )
        record |= {
            key: verdict.get(key)
            for key in ("verdict", "reason", "checks", "champion", "changed", "override")
        }
        rules = [
            {key: check.get(key) for key in ("rule", "metric", "outcome", "reason")}
            for check in verdict["checks"]
        ]
        create_table_artifact(
            rules,
            key=f"{recipe}-gate",
            description=f"**{verdict['verdict']}**: {verdict['reason']}",
        )
        artifacts.write_documents(recipe, manifest, verdict, record["stages"])
        if verdict["verdict"] != "promote" and not override:
            return "Rejected" if verdict["verdict"] == "reject" else "Inconclusive", verdict[
                "reason"
            ]
        promotion.push_outputs(store, recipe, stages)
        moved = promotion.promote_candidate(
            store, recipe, channel, manifest, verdict, champion, run
        )
        if moved.won:
            create_markdown_artifact(
                f"**{recipe} {version}** is in `{channel}`.\n\n{verdict['reason']}",
                key=f"{recipe}-version",
            )
            told = (
                f"{override['actor']} overrode the verdict {verdict['verdict']}: {override['reason']} "
                if override
                else ""
            )
            return "Promoted", f"{recipe} {version} is now in {channel}. {told}{verdict['reason']}"
    winner = (
        f"{moved.now.version} by {moved.now.record['reason']}" if moved.now else "nothing by nobody"
    )
    return "Superseded", f"{channel} moved while this run judged: it names {winner}."


@contextlib.contextmanager
def lock_workspace() -> Iterator[None]:
    """Hold the workspace's lock, and clear away what a killed run has left."""
    WORKSPACE_LOCK.parent.mkdir(exist_ok=True)
    with file_lock(WORKSPACE_LOCK, wait=False) as held:
        if not held:
            raise StageError(
                f"Another run works in {Path.cwd()}: wait until it has ended, or use another clone."
            )
        stage_process.end_orphan_processes(get_run_logger().warning)
        stage_process.repair_dvc_locks(get_run_logger().warning)
        yield


def read_git_commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def format_utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
