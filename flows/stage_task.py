"""Stage task."""

import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows import gpus, stage_process
from flows.dvc_graph import UNTRACKED_SOURCE_CHANGED, Stage
from flows.progress_artifact import ProgressArtifact
from tasks.core.errors import RetryableError, StageError
from tasks.storage import layout


def is_retryable(task: Any, run: Any, state: Any) -> bool:
    """Prefect's question whether to retry: only what may pass by itself. It must be a plain function, or retries are silently off."""
    return isinstance(state.result(raise_on_failure=False), RetryableError)


@task(cache_policy=NO_CACHE, retry_condition_fn=is_retryable)
def run_stage(stage: Stage, why: list[str]) -> dict[str, Any]:
    """Run one stage as `dvc repro` would; returns its record."""
    logger = get_run_logger()
    logger.info("%s: %s", stage.address, "; ".join(why))
    begun = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "dvc",
        "--wait-for-lock",
        "repro",
        "--single-item",
        *(["--force"] if why == [UNTRACKED_SOURCE_CHANGED] else []),
        stage.address,
    ]

    bar = ProgressArtifact(stage.address)
    measured: dict[str, Any] = {}

    def log(line: str) -> None:
        bar.update_from_line(line)
        if not is_dvc_advice(line):
            logger.log(logging.WARNING if line.startswith("warning:") else logging.INFO, line)

    with gpus.reserve_gpus(stage) as alone:
        lines = stage_process.run_process(
            [*alone, *command], log, stage.timeout, stage.address, measured
        )
    ran = any(line.startswith("Running stage") for line in lines)
    return {
        "stage": stage.address,
        "state": "ran" if ran else "restored",
        "why": why,
        "seconds": round(time.monotonic() - begun, 2),
        **measured,
    }


def is_dvc_advice(line: str) -> bool:
    """Whether this is DVC's advice to a person at a terminal, which a log has no use for."""
    return not line.strip() or line.strip().startswith(
        ("git add", "dvc config", "To track", "To enable", "Use `dvc push`")
    )


def restore_outputs(recipe: str, stages: list[Stage]) -> None:
    """In a new workspace, restore from DVC's cache what stages take up: parts that need not be read again, the snapshot to compare with."""
    if not any(layout.recipe_folder(recipe).glob("*/")) and Path("dvc.lock").is_file():
        kept = [stage.address for stage in stages if stage.keeps]
        with contextlib.suppress(StageError):  # the cache may know nothing of it
            stage_process.run_process(
                [sys.executable, "-m", "dvc", "checkout", "--quiet", *kept],
                get_run_logger().debug,
                600,
                "dvc checkout",
            )
