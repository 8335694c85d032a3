"""Gpus."""

import contextlib
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from flows import stage_process
from flows.dvc_graph import Stage
from tasks.core.errors import ConfigError
from tasks.recipe.loading import load_recipe
from tasks.storage.locks import file_lock


@contextlib.contextmanager
def reserve_gpus(stage: Stage) -> Iterator[list[str]]:
    """Hold as many of this machine's GPUs as a stage with the tag gpu has processes, whatever workspace others run in; gives the words before its command
    that show it these alone.

    A killed run's slots come back in a minute. Workspaces with a Prefect server each share no slots, so lock files say which GPUs are taken.
    """
    given = os.environ.get("MILLRACE_GPUS", "")
    if given and not given.isdecimal():
        raise ConfigError(
            f"MILLRACE_GPUS is {given!r}: set it to how many GPUs runs may use, such as 2, or unset it."
        )
    found = int(given or len(list(Path("/dev").glob("nvidia[0-9]*"))))
    section = (
        getattr(load_recipe(stage.recipe), stage.name, None)
        if "gpu" in stage.tags and found
        else None
    )
    if not section:
        yield []  # it needs none, or has nothing to do
        return
    numbers = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(found)))).split(
        ","
    )
    wanted = min(found, len(numbers), getattr(section, "processes", 1))
    name = f"gpu-{platform.node()}"
    with (
        get_client(sync_client=True) as client,
        contextlib.suppress(ObjectAlreadyExists),
    ):  # two that make it at once: one is refused
        client.upsert_global_concurrency_limit_by_name(name, found)
    lock = f"{tempfile.gettempdir()}/millrace-{os.getuid()}-gpu-"
    with (
        concurrency(name, strict=True, occupy=wanted, lease_duration=60),
        contextlib.ExitStack() as held,
    ):
        while (
            len(
                mine := list(
                    itertools.islice(
                        (
                            one
                            for one in numbers
                            if held.enter_context(file_lock(Path(lock + one), wait=False))
                        ),
                        wanted,
                    )
                )
            )
            < wanted
        ):
            held.close()
            time.sleep(stage_process.POLL_SECONDS)
        yield ["env", f"CUDA_VISIBLE_DEVICES={','.join(mine)}"]
