"""Promotion."""

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, embedded_s3, stage_process, stage_task
from flows.dvc_graph import Stage
from tasks.core.errors import StageError
from tasks.registry import channel_pointer, gate_evidence, local_champion, manifests, object_keys
from tasks.registry.channel_pointer import ChannelPointer, PromotionResult
from tasks.reports import model_card
from tasks.storage import files, hashing, layout, object_store
from tasks.storage.object_store import ObjectStore

VOLATILE_OUTPUTS = re.compile(
    r"/checks/\w+$|/evaluation/(cost\.json|report\.html)$"
)  # outputs that are others each time
NETWORK_TASK_OPTIONS: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "cache_policy": NO_CACHE,
}


@task(name="push", retry_condition_fn=stage_task.is_retryable, **NETWORK_TASK_OPTIONS)
def push_outputs(store: ObjectStore, recipe: str, stages: list[Stage]) -> None:
    """Push the stages' outputs to the DVC remote in the same store, so that every promoted model can be traced to its data."""
    embedded_s3.configure_dvc_remote(store.settings)
    dvc = [*embedded_s3.hide_aws_profile(store.settings), sys.executable, "-m", "dvc"]
    command = [
        *dvc,
        "push",
        "--quiet",
        "--remote",
        embedded_s3.DVC_REMOTE,
        *(stage.address for stage in stages),
    ]
    stage_process.run_process(command, get_run_logger().info, 3600, "dvc push")


@task(
    name="gate against the champion",
    retry_condition_fn=stage_task.is_retryable,
    **NETWORK_TASK_OPTIONS,
)
def judge_candidate(
    store: ObjectStore,
    recipe: str,
    version: str,
    champion: ChannelPointer | None,
    override: dict[str, str] | None,
) -> dict[str, Any]:
    """The gate's result for the candidate and this champion. What was judged once stays so: only a new version is a new look at the champion."""
    name, out = champion.version if champion else None, layout.recipe_folder(recipe) / "gate.json"
    known = gate_evidence.recorded_verdict(store, recipe, version, name)
    if (
        override
    ):  # what a person promotes all the same need not be judged again, which may be what fails
        return {**(known or files.read_json(out)), "champion": name, "override": override}
    if champion and not known:
        folder = manifests.fetch_version(
            store, recipe, champion.version, local_champion.CHAMPIONS_FOLDER / recipe
        )
        look = gate_evidence.claim_comparison_number(store, recipe, version, champion.version)
        out = Path(".millrace") / f"gate-{recipe}.json"
        command = [
            sys.executable,
            "-m",
            "tasks.gate",
            recipe,
            str(folder),
            champion.version,
            str(look),
            str(out),
        ]
        stage_process.run_process(command, get_run_logger().info, 3600, "gate")
    judged: dict[str, Any] = known or files.read_json(out)
    if judged["verdict"] != "promote":  # where it is, that is written once the version is
        object_store.create_once(
            store, object_keys.evidence_key(recipe, version, name), files.encode_json(judged)
        )
    return judged


@task(name="fetch the champion", retry_condition_fn=stage_task.is_retryable, **NETWORK_TASK_OPTIONS)
def fetch_champion(store: ObjectStore, recipe: str, channel: str) -> None:
    """Put what is in production where the stages find it: training is to start from it."""
    pointer = channel_pointer.read_pointer(store, recipe, channel)
    folder = (
        manifests.fetch_version(
            store, recipe, pointer.version, local_champion.CHAMPIONS_FOLDER / recipe
        )
        if pointer
        else None
    )
    local_champion.record_champion(
        recipe, pointer.version if pointer else None, hashing.hash_folder(folder) if folder else {}
    )


@task(name="promote", retry_condition_fn=stage_task.is_retryable, **NETWORK_TASK_OPTIONS)
def promote_candidate(
    store: ObjectStore,
    recipe: str,
    channel: str,
    manifest: bytes,
    evidence: dict[str, Any],
    champion: ChannelPointer | None,
    run: str,
) -> PromotionResult:
    """Publish the version and move the channel's pointer to it, if the champion is still the one in the evidence."""
    version = manifests.publish_version(
        store, recipe, layout.recipe_folder(recipe) / "model", manifest
    )
    for name in artifacts.DOCUMENT_NAMES:
        store.upload(f"{recipe}/versions/{version}/{name}", layout.recipe_folder(recipe) / name)
    by = evidence.get("override") or {"actor": "flow", "reason": f"run {run}"}
    return channel_pointer.promote(
        store, recipe, channel, version, evidence, champion, by["actor"], by["reason"]
    )


def build_manifest(recipe: str, stages: list[Stage]) -> bytes:
    """The manifest of what was judged: refuses a model whose files are not those of the evaluation."""
    folder = layout.recipe_folder(recipe)
    lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    lineage = {
        stage.address: {
            # what the checks keep of earlier snapshots is no part of what this model was made from, and what a clock said of it neither
            kind: {
                item["path"]: item.get("md5")
                for item in lock[stage.address].get(kind, [])
                if not VOLATILE_OUTPUTS.search(item["path"])
            }
            for kind in ("deps", "outs")
        }
        for stage in stages
    }
    evaluation = files.read_json(folder / "evaluation" / "metrics.json")
    runtime = {"python": ".".join(platform.python_version_tuple()[:2])}
    manifest = manifests.encode_manifest(
        recipe, folder / "model", lineage, model_card.select_intervals(evaluation), runtime
    )
    if {
        name: about["sha256"] for name, about in json.loads(manifest)["files"].items()
    } != evaluation["model_sha256"]:
        raise StageError(
            f"{folder / 'model'} is not the model that was evaluated: run `dvc repro gate@{recipe}`, which evaluates it again; nothing was promoted."
        )
    return manifest
