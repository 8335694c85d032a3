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
from tasks.core.errors import Failure
from tasks.recipe import resolved
from tasks.recipe.loading import load
from tasks.registry import channel_pointer, local_champion, manifests
from tasks.storage import files
from tasks.storage.locks import locked
from tasks.storage.object_store import Store

LOCK = Path(".millrace/lock")
RUNS = Path("runs")
ROUNDS = 3  # gates against a champion that moved while we judged


@flow(name="retrain", flow_run_name="{recipe}", log_prints=True)
def retrain(recipe: str, override: dict[str, str] | None = None) -> State:
    """Retrain, judge and promote one registered recipe. Ends as Promoted, Unchanged, Rejected, Inconclusive, Superseded, or failed with a sentence.

    With `override`, an actor and a reason, no stage runs, and what was judged is promoted whatever the verdict was.
    """
    run = str(flow_run.get_id() or "local")
    record: dict[str, Any] = {
        "run": run,
        "recipe": recipe,
        "started": now(),
        "commit": commit(),
        "stages": [],
    }
    path = RUNS / f"{run}.json"
    try:
        with workspace(), embedded_s3.opened() as store:
            try:
                outcome, message = steps(store, recipe, run, record, override)
            except Failure as failure:
                outcome, message = "Failed", str(failure)
            files.write_json(
                path, record | {"outcome": outcome, "message": message, "ended": now()}
            )
            store.upload(f"{recipe}/runs/{path.name}", path)
    except Failure as failure:
        outcome, message = "Failed", str(failure)
        files.write_json(path, record | {"outcome": outcome, "message": message, "ended": now()})
    return (
        Failed(message=message) if outcome == "Failed" else Completed(name=outcome, message=message)
    )


def steps(
    store: Store, recipe: str, run: str, record: dict[str, Any], override: dict[str, str] | None
) -> tuple[str, str]:
    """The run itself; returns the flow's state and its reason."""
    said = load(recipe)
    if local_champion.wanted(said) and not override:
        promotion.note_champion(store, recipe, said.promote.channel)
    pipeline = Pipeline()
    stages = pipeline.stages(recipe)
    stage_task.bring_back(recipe, stages)
    for stage in stages if not override else ():
        why, begun = pipeline.why(stage), time.monotonic()
        entry: dict[str, Any] = {
            "stage": stage.address,
            "state": "failed" if why else "cached",
            "why": why,
            "seconds": 0.0,
        }
        record["stages"].append(entry)
        if stage.name == "ingest" and not why:
            get_run_logger().info("%s (unchanged since the last run)", artifacts.held(recipe))
        if why:
            options: dict[str, Any] = {
                "name": stage.name,
                "retries": stage.retries,
                "retry_delay_seconds": stage.backoff or None,
                "tags": stage.tags,
            }
            try:
                entry |= stage_task.run_stage.with_options(**options)(stage, why)
            except Failure:
                entry["seconds"] = round(time.monotonic() - begun, 2)
                raise
    channel = files.read_json(resolved.path_of(recipe))["promote"]["channel"]
    manifest = promotion.candidate(recipe, stages)
    version = manifests.version_of(manifest)
    record |= {"version": version, "channel": channel, "warnings": artifacts.shown(recipe)}
    for _ in range(ROUNDS):
        champion = channel_pointer.read(store, recipe, channel)
        if champion and champion.version == version:
            return (
                "Unchanged",
                f"{recipe} {version} is in production already (generation {champion.generation}).",
            )
        verdict = promotion.judge(store, recipe, version, champion, override)
        if verdict["model_sha256"] != {
            name: about["sha256"] for name, about in json.loads(manifest)["files"].items()
        }:
            raise Failure(
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
        artifacts.document(recipe, manifest, verdict, record["stages"])
        if verdict["verdict"] != "promote" and not override:
            return "Rejected" if verdict["verdict"] == "reject" else "Inconclusive", verdict[
                "reason"
            ]
        promotion.push(store, recipe, stages)
        moved = promotion.promote(store, recipe, channel, manifest, verdict, champion, run)
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
def workspace() -> Iterator[None]:
    """Hold the workspace's lock, and clear away what a killed run has left."""
    LOCK.parent.mkdir(exist_ok=True)
    with locked(LOCK, wait=False) as held:
        if not held:
            raise Failure(
                f"Another run works in {Path.cwd()}: wait until it has ended, or use another clone."
            )
        stage_process.sweep(get_run_logger().warning)
        stage_process.repair_locks(get_run_logger().warning)
        yield


def commit() -> str | None:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
