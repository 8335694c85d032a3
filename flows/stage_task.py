"""The task that runs one stage with DVC, under the policy of its `meta` in dvc.yaml."""

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import gpus, prepared_process, stage_process
from flows.dvc_graph import UNTRACKED_SOURCE_CHANGED, Stage
from flows.progress_artifact import ProgressArtifact
from tasks.contracts.run_record import StageEntry, StageMeasurements
from tasks.core.errors import RetryableError, StageError
from tasks.storage.layout import StagePaths

CHECKOUT_SECONDS = 600.0
# Advice of DVC to a person at a terminal, which a log has no use for.
DVC_ADVICE = ("git add", "dvc config", "To track", "To enable", "Use `dvc push`")


def is_retryable(task: Any, run: Any, state: Any) -> bool:  # noqa: ARG001  Prefect's signature
    """Return whether Prefect should retry: only after an error that may pass by itself.

    It must be a plain function, or Prefect silently never retries.
    """
    return isinstance(state.result(raise_on_failure=False), RetryableError)


def run_with_policy(stage: Stage, reasons: list[str]) -> Iterator[StageEntry]:
    """Run a stage with its retries; yield its entry, also if it fails.

    Raises:
        StageError: The stage failed.
    """
    start_time = time.monotonic()
    run = run_stage.with_options(
        name=stage.name,
        retries=stage.retries,
        retry_delay_seconds=stage.backoff or 0,
        tags=stage.tags,
    )
    try:
        entry = run(stage, reasons)
    except StageError:
        seconds = round(time.monotonic() - start_time, 2)
        yield StageEntry(stage=stage.address, state="failed", reasons=reasons, seconds=seconds)
        raise
    yield entry


@task(cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def run_stage(stage: Stage, reasons: list[str]) -> StageEntry:
    """Run one stage as `dvc repro` would.

    Args:
        stage: The stage.
        reasons: What has changed since it last ran.

    Raises:
        StageError: The stage failed.
    """
    logger = get_run_logger()
    logger.info("%s: %s", stage.address, "; ".join(reasons))
    start_time = time.monotonic()
    bar = ProgressArtifact(stage.address)

    def log_line(line: str) -> None:
        if not is_dvc_advice(line):
            logger.log(logging.WARNING if line.startswith("warning:") else logging.INFO, line)

    with gpus.reserve_gpus(stage) as variables:
        command = repro_command(stage, reasons)
        start = functools.partial(
            prepared_process.start_dvc, command, recipe=stage.recipe, extra=variables
        )
        result = stage_process.supervise(start, stage.address, stage.timeout, log_line, bar.update)
    has_run = any(line.startswith("Running stage") for line in result.lines)
    return StageEntry(
        stage=stage.address,
        state="ran" if has_run else "restored",
        reasons=reasons,
        seconds=round(time.monotonic() - start_time, 2),
        measurements=StageMeasurements.model_validate(result.measurements),
    )


def repro_command(stage: Stage, reasons: list[str]) -> list[str]:
    """Return the command that runs one stage and nothing before it."""
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item"]
    if reasons == [UNTRACKED_SOURCE_CHANGED]:
        command.append("--force")
    return [*command, stage.address]


def is_dvc_advice(line: str) -> bool:
    """Return whether a line is empty, or advice to a person at a terminal."""
    text = line.strip()
    return not text or text.startswith(DVC_ADVICE)


def restore_outputs(recipe: str, stages: list[Stage]) -> None:
    """In a new workspace, restore from DVC's cache the outputs that stages continue from.

    These are partitions that need not be read again, and the snapshot to compare with.
    """
    has_outputs = any(StagePaths.of_recipe(recipe).root.glob("*/"))
    if has_outputs or not Path("dvc.lock").is_file():
        return
    addresses = [stage.address for stage in stages if stage.keeps_outputs]
    command = [sys.executable, "-m", "dvc", "checkout", "--quiet", *addresses]
    with contextlib.suppress(StageError):  # the cache may not have them
        stage_process.run_process(command, "dvc checkout", CHECKOUT_SECONDS, get_run_logger().debug)
