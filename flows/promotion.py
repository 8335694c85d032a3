"""The tasks around a promotion: fetch the champion, judge against it, push the data, promote."""

import shutil
import sys
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import artifacts, embedded_s3, stage_process, stage_task, version_check
from flows.candidates import Candidate
from flows.dvc_graph import Stage
from tasks.contracts.evidence import Evidence, Override
from tasks.contracts.gate_verdict import GateVerdict
from tasks.contracts.manifest import GOLDEN
from tasks.contracts.validation_result import ValidationResult
from tasks.gating import promotion_gate
from tasks.gating.champion import Champion
from tasks.recipe.resolved import read_resolved_recipe
from tasks.registry import (
    channel_pointer,
    documents,
    gate_evidence,
    local_champion,
    manifests,
    moves,
    signed_provenance,
)
from tasks.registry.channel_pointer import CurrentPointer
from tasks.registry.moves import MoveResult, Promotion
from tasks.registry.registry import Registry
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder, StagePaths
from tasks.storage.object_store import ObjectStore

COMMAND_SECONDS = 3600.0  # limit of a push and of a comparison with the champion
NETWORK_TASK_OPTIONS: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "retry_condition_fn": stage_task.is_retryable,
    "cache_policy": NO_CACHE,
}


@task(name="fetch the champion", **NETWORK_TASK_OPTIONS)
def fetch_champion(registry: Registry, recipe: str, channel: str) -> None:
    """Fetch what is in production to the folder from which stages start or learn."""
    pointer = channel_pointer.read_pointer(registry, recipe, channel)
    if pointer is None:
        local_champion.record_champion(recipe, None, {})
        return
    folder = fetch_version(registry, recipe, pointer.version)
    local_champion.record_champion(recipe, pointer.version, hashing.hash_folder(folder))


def fetch_version(registry: Registry, recipe: str, version: str) -> Path:
    """Fetch a version to the folder of champions; return its folder."""
    folder = local_champion.CHAMPIONS_FOLDER / recipe
    return manifests.fetch_version(registry, recipe, version, folder)


@task(name="gate against the champion", **NETWORK_TASK_OPTIONS)
def judge_candidate(
    registry: Registry,
    candidate: Candidate,
    champion: str | None,
    override: Override | None,
) -> Evidence:
    """Return the verdict on a version against the champion.

    A pair is judged once; only a new version is another comparison with the champion.

    Args:
        registry: The registry.
        candidate: The version, and the channel that it is for.
        champion: The champion's version; None if nothing is in the channel.
        override: Who promotes the version all the same. Then it is not judged again, as that may
            be what fails.
    """
    recipe = candidate.recipe
    recorded = gate_evidence.read_evidence(
        registry, recipe, candidate.channel, candidate.version, champion
    )
    if recorded and not override:
        return recorded
    if recorded:
        gate = recorded.gate
    elif champion and not override:
        gate = compare_with_champion(registry, recipe, candidate.version, champion)
    else:
        gate = read_stage_verdict(recipe)
    evidence = Evidence(
        model=recipe,
        channel=candidate.channel,
        version=candidate.version,
        champion=champion,
        gate=gate,
        override=override,
    )
    if not evidence.allows_promotion:  # that to promote is written with the promotion
        gate_evidence.write_evidence(registry, evidence)
    return evidence


def read_stage_verdict(recipe: str) -> GateVerdict:
    """Return the verdict of the stage `gate`, which compares with no champion."""
    return GateVerdict.read(StagePaths.of_recipe(recipe).gate)


def compare_with_champion(
    registry: Registry, recipe: str, version: str, champion: str
) -> GateVerdict:
    """Run the gate with the champion's predictions on the same rows; return its verdict."""
    folder = fetch_version(registry, recipe, champion)
    number = gate_evidence.claim_comparison_number(registry, recipe, version, champion)
    path = Path(".millrace") / f"gate-{recipe}.json"
    opponent = Champion(ModelFolder(folder), champion, number)
    command = [sys.executable, *promotion_gate.command(recipe, opponent, path)]
    stage_process.run_process(command, "gate", COMMAND_SECONDS, get_run_logger().info)
    return GateVerdict.read(path)


@task(name="push", **NETWORK_TASK_OPTIONS)
def push_outputs(store: ObjectStore, stages: list[Stage]) -> None:
    """Push the stages' outputs to the DVC remote, so that a version can be traced to its data."""
    embedded_s3.configure_dvc_remote(store)
    command = [
        *embedded_s3.hide_aws_profile(store.settings),
        *(sys.executable, "-m", "dvc", "push", "--quiet", "--remote", embedded_s3.DVC_REMOTE),
        *(stage.address for stage in stages),
    ]
    stage_process.run_process(command, "dvc push", COMMAND_SECONDS, get_run_logger().info)


@task(name="publish", **NETWORK_TASK_OPTIONS)
def publish_candidate(registry: Registry, candidate: Candidate) -> None:
    """Upload the version: the model's files and its golden requests, signed, and its documents."""
    paths = StagePaths.of_recipe(candidate.recipe)
    with files.temporary_folder(Path(f".millrace/publish-{candidate.recipe}")) as folder:
        link_files(paths, folder)
        manifests.publish_version(registry, folder, candidate.manifest, candidate.provenance)
    documents.publish_documents(registry, candidate.manifest, artifacts.list_documents(paths))


def link_files(paths: StagePaths, folder: Path) -> None:
    """Put the model's files and its golden requests into one folder, without copies."""
    shutil.copytree(paths.model.path, folder, copy_function=link_or_copy, dirs_exist_ok=True)
    link_or_copy(paths.evaluation.golden, folder / GOLDEN)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; copy it if the file system cannot do that."""
    try:
        Path(target).hardlink_to(Path(source).resolve())
    except OSError:
        shutil.copyfile(source, target)


@task(name="validate", **NETWORK_TASK_OPTIONS)
def validate_candidate(candidate: Candidate) -> ValidationResult:
    """Load the published version in a fresh process, and have it answer its golden requests."""
    budgets = read_resolved_recipe(candidate.recipe).promote
    result = version_check.run_validation(candidate.recipe, candidate.version, budgets)
    get_run_logger().info("%s", result.reason)
    return result


@task(name="promote", **NETWORK_TASK_OPTIONS)
def promote_candidate(
    registry: Registry,
    candidate: Candidate,
    evidence: Evidence,
    expected: CurrentPointer | None,
) -> MoveResult:
    """Move the channel's pointer to the published version.

    Args:
        registry: The registry.
        candidate: The version.
        evidence: The verdict on it.
        expected: The pointer that the evidence was made against. If it has changed, the promotion
            is lost.
    """
    signed_provenance.sign_provenance(registry, candidate.manifest, candidate.provenance, evidence)
    by = evidence.override or Override(actor="flow", reason=f"run {candidate.provenance.run}")
    return moves.promote(
        registry,
        Promotion(evidence=evidence, expected=expected, actor=by.actor, reason=by.reason),
    )
