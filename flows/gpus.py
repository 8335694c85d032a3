"""Reserving GPUs for stages with the tag `gpu`."""

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from flows.dvc_graph import Stage
from tasks.core.settings import read_settings
from tasks.recipe.loading import load_recipe
from tasks.storage.locks import file_lock

GPU_TAG = "gpu"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 0.2
LEASE_SECONDS = 60  # after which Prefect takes back the slots of a run that was killed


@contextlib.contextmanager
def reserve_gpus(stage: Stage) -> Iterator[dict[str, str]]:
    """Reserve one GPU per process of a `gpu` stage, across the workspaces of this machine.

    Prefect's limit makes runs wait in its UI. Workspaces that each have a Prefect server share no
    limit, so lock files say which GPUs are taken.

    Yields:
        The variable that shows these GPUs alone to the stage; none for a stage that needs no GPU.
    """
    limit = count_usable_gpus()
    n_processes = count_processes(stage) if limit else 0
    if n_processes == 0:
        yield {}
        return
    gpus = list_visible_gpus(limit)
    wanted = min(limit, len(gpus), n_processes)
    with occupy_slots(limit, wanted), lock_gpus(gpus, wanted) as taken:
        yield {VISIBLE_VARIABLE: ",".join(taken)}


def count_usable_gpus() -> int:
    """Return how many GPUs runs may use: MILLRACE_GPUS, or all of this machine.

    Raises:
        ConfigError: MILLRACE_GPUS is no number.
    """
    configured = read_settings().gpus
    return len(list(Path("/dev").glob("nvidia[0-9]*"))) if configured is None else configured


def list_visible_gpus(limit: int) -> list[str]:
    """Return the GPUs that this process may see, as CUDA names them."""
    visible = os.environ.get(VISIBLE_VARIABLE)
    return visible.split(",") if visible else [str(number) for number in range(limit)]


def count_processes(stage: Stage) -> int:
    """Return how many processes of a stage need a GPU each; 0 if it needs none."""
    if GPU_TAG not in stage.tags:
        return 0
    config = getattr(load_recipe(stage.recipe), stage.name, None)
    return int(getattr(config, "processes", 1)) if config else 0


@contextlib.contextmanager
def occupy_slots(limit: int, wanted: int) -> Iterator[None]:
    """Occupy slots of Prefect's concurrency limit for the GPUs of this machine."""
    name = f"gpu-{platform.node()}"
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(name, limit)  # another may create it now
    with concurrency(name, strict=True, occupy=wanted, lease_duration=LEASE_SECONDS):
        yield


@contextlib.contextmanager
def lock_gpus(gpus: Sequence[str], wanted: int) -> Iterator[list[str]]:
    """Hold the lock files of this many GPUs; wait until so many are free at once."""
    with ExitStack() as stack:
        taken = try_lock(gpus, wanted, stack)
        while len(taken) < wanted:
            stack.close()  # never hold some while waiting for others
            time.sleep(POLL_SECONDS)
            taken = try_lock(gpus, wanted, stack)
        yield taken


def try_lock(gpus: Sequence[str], wanted: int, stack: ExitStack) -> list[str]:
    """Take the locks of up to `wanted` GPUs that nobody holds; return the GPUs."""
    taken: list[str] = []
    for gpu in gpus:
        if len(taken) == wanted:
            break
        if stack.enter_context(file_lock(lock_path(gpu), wait=False)):
            taken.append(gpu)
    return taken


def lock_path(gpu: str) -> Path:
    """Return the lock file of a GPU. All workspaces of a user share it."""
    return Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}-gpu-{gpu}"
