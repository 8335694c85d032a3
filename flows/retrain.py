"""The flow: run a recipe's stages, judge the result against the champion, and promote it.

Each stage of dvc.yaml is one task. DVC is the only cache; Prefect retries, limits and shows.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.states import Failed as FailedState

from flows import (
    artifacts,
    candidates,
    outcomes,
    prepared_process,
    promotion,
    registry_access,
    stage_process,
    stage_task,
)
from flows.candidates import Candidate
from flows.dvc_graph import Pipeline, Stage
from flows.outcomes import Failed, Frozen, Outcome, Promoted, Rejected, Superseded, Unchanged
from tasks.contracts.evidence import Evidence, Override
from tasks.contracts.run_record import RunRecord, StageEntry
from tasks.contracts.validation_result import ValidationResult
from tasks.core import timestamps
from tasks.core.errors import StageError
from tasks.recipe.loading import load_recipe
from tasks.registry import channel_pointer, local_champion, object_keys
from tasks.registry.channel_pointer import CurrentPointer
from tasks.registry.registry import Registry
from tasks.storage import transfer
from tasks.storage.locks import file_lock

WORKSPACE_LOCK = Path(".millrace/lock")
RUNS_FOLDER = Path("runs")
MAX_ROUNDS = 3  # gates against a champion that was replaced meanwhile


@dataclass
class RunLog:
    """What is known of a run so far. However the run ends, its record is made of this.

    Only `retrain` and `run_and_promote` write to it.
    """

    run: str
    recipe: str
    commit: str | None
    started: str
    stages: list[StageEntry] = field(default_factory=list)
    candidate: Candidate | None = None
    warnings: list[str] = field(default_factory=list)
    evidence: Evidence | None = None
    validation: ValidationResult | None = None

    @property
    def path(self) -> Path:
        """Where the record is written."""
        return RUNS_FOLDER / f"{self.run}.json"

    def to_record(self, outcome: Outcome) -> RunRecord:
        """Return the record of the run that ends like this."""
        return RunRecord(
            run=self.run,
            recipe=self.recipe,
            commit=self.commit,
            started=self.started,
            ended=timestamps.format_utc_now(),
            stages=self.stages,
            version=self.candidate.version if self.candidate else None,
            channel=self.candidate.channel if self.candidate else None,
            warnings=self.warnings,
            evidence=self.evidence,
            validation=self.validation,
            outcome=outcome.name,
            message=outcome.message,
        )


@flow(name="retrain", flow_run_name="{recipe}", log_prints=True)
def retrain(recipe: str, override: Override | None = None, channel: str | None = None) -> State:
    """Retrain, judge and promote one registered recipe.

    The flow ends in the state Promoted, Unchanged, Rejected, Inconclusive, Frozen, Superseded or
    Failed, with a sentence.

    Args:
        recipe: The recipe's name.
        override: Who promotes the model that was judged last, and why, whatever the verdict was.
        channel: The channel for which a person promotes what is there. Then no stage runs. Without
            it, the stages that are stale run, and the recipe names the channel.
    """
    log = RunLog(
        run=str(flow_run.get_id() or "local"),
        recipe=recipe,
        commit=candidates.read_git_commit(),
        started=timestamps.format_utc_now(),
    )
    try:
        say = get_run_logger().warning
        with lock_workspace(), registry_access.open_registry_for_signing(say) as registry:
            outcome = run_or_fail(registry, log, override, channel)
            log.to_record(outcome).write(log.path)
            transfer.upload(registry.store, object_keys.run_key(recipe, log.run), log.path)
    except StageError as error:  # there is no store
        outcome = Failed(error)
        log.to_record(outcome).write(log.path)
    if isinstance(outcome, Failed):
        return FailedState(message=outcome.message)
    return Completed(name=outcome.name, message=outcome.message)


def run_or_fail(
    registry: Registry, log: RunLog, override: Override | None, channel: str | None
) -> Outcome:
    """Run the recipe; an error is an outcome too."""
    try:
        return run_and_promote(registry, log, override, channel)
    except StageError as error:
        return Failed(error)


def run_and_promote(
    registry: Registry, log: RunLog, override: Override | None, channel: str | None
) -> Outcome:
    """Run the stages, and promote the result if the gate or a person allows it."""
    pipeline = Pipeline(log.recipe)
    stages = pipeline.list_stages()
    stage_task.restore_outputs(log.recipe, stages)
    if not channel:
        fetch_needed_champion(registry, log.recipe)
        for entry in run_stages(pipeline, stages):
            log.stages.append(entry)
    candidate = candidates.build_candidate(log.recipe, log.run, stages, channel)
    log.candidate = candidate
    log.warnings = artifacts.publish_artifacts(log.recipe)
    for _ in range(MAX_ROUNDS):
        champion = channel_pointer.read_pointer(registry, log.recipe, candidate.channel)
        if champion and champion.version == candidate.version:
            return Unchanged(log.recipe, champion)
        evidence = judge(registry, candidate, champion, override)
        log.evidence = evidence
        artifacts.publish_verdict(candidate, evidence, log.stages)
        if not evidence.allows_promotion:
            return outcomes.of_verdict(evidence)
        if champion and champion.record.frozen and not override:
            return Frozen(champion)
        promotion.push_outputs(registry.store, stages)
        promotion.publish_candidate(registry, candidate)
        log.validation = promotion.validate_candidate(candidate)
        if log.validation.verdict == "fail":
            return Rejected(f"{log.recipe} {candidate.version}: {log.validation.reason}")
        if promotion.promote_candidate(registry, candidate, evidence, champion).won:
            artifacts.publish_promotion(candidate, evidence)
            return Promoted(candidate, evidence)
    winner = channel_pointer.read_pointer(registry, log.recipe, candidate.channel)
    return Superseded(candidate.channel, winner)


def fetch_needed_champion(registry: Registry, recipe_name: str) -> None:
    """Fetch the champion if the recipe's training starts from it or learns from it."""
    recipe = load_recipe(recipe_name)
    if local_champion.is_champion_needed(recipe):
        promotion.fetch_champion(registry, recipe_name, recipe.promote.channel)


def run_stages(pipeline: Pipeline, stages: list[Stage]) -> Iterator[StageEntry]:
    """Run the stages that are stale; yield an entry for each stage, also for one that fails.

    Raises:
        StageError: A stage failed.
    """
    for stage in stages:
        reasons = pipeline.stale_reasons(stage)
        if reasons:
            yield from stage_task.run_with_policy(stage, reasons)
            continue
        if stage.name == "ingest":
            source_rows = artifacts.describe_source_rows(stage.recipe)
            get_run_logger().info("%s (unchanged since the last run)", source_rows)
        yield StageEntry(stage=stage.address, state="cached", reasons=[], seconds=0.0)


def judge(
    registry: Registry,
    candidate: Candidate,
    champion: CurrentPointer | None,
    override: Override | None,
) -> Evidence:
    """Return the verdict on the candidate against the champion.

    Raises:
        StageError: The gate judged other files than the candidate's.
    """
    champion_version = champion.version if champion else None
    evidence = promotion.judge_candidate(registry, candidate, champion_version, override)
    if evidence.gate.model_sha256 != candidate.manifest.model_hashes:
        raise StageError(
            f"The gate judged other files than those of {candidate.recipe} {candidate.version}: "
            f"run `dvc repro gate@{candidate.recipe}`; nothing was promoted."
        )
    return evidence


@contextlib.contextmanager
def lock_workspace() -> Iterator[None]:
    """Hold the workspace's lock, and clear away what a killed run has left."""
    WORKSPACE_LOCK.parent.mkdir(exist_ok=True)
    with file_lock(WORKSPACE_LOCK, wait=False) as is_held:
        if not is_held:
            raise StageError(
                f"Another run works in {Path.cwd()}: wait until it has ended, or use another clone."
            )
        stage_process.end_orphan_processes(get_run_logger().warning)
        stage_process.repair_dvc_locks(get_run_logger().warning)
        try:
            yield
        finally:
            prepared_process.end_server()
