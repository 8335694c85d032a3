"""Starting the processes of a stage: on this machine, or as workers of a Ray cluster."""

import importlib
import os
import shutil
import sys
from pathlib import Path

import torch

from tasks.core import errors, ray_cluster
from tasks.core.errors import (
    EXIT_CONFIG_ERROR,
    EXIT_RETRYABLE,
    ConfigError,
    RetryableError,
    StageError,
)
from tasks.recipe.recipe import Recipe

RAY_FOLDER = Path("checkpoints/.ray")  # where Ray Train keeps its own files while it runs
# Exit statuses of a process that has said itself why it failed, here and in the status file.
EXPLAINED_EXITS = (1, EXIT_CONFIG_ERROR, EXIT_RETRYABLE)


def launch_processes(recipe: Recipe, n_processes: int, module: str) -> None:
    """Run `python -m MODULE RECIPE` in several processes, and wait for them.

    There are no restarts here: whoever runs the stage decides whether it runs again, and it then
    goes on from the last checkpoint.

    Args:
        recipe: The recipe; with `engine: {kind: ray}` the processes are workers of its cluster,
            which have to see this folder.
        n_processes: How many.
        module: The stage's module, such as tasks.train.

    Raises:
        SystemExit: A process failed; the status is that of the first one.
        RetryableError: A process was killed.
    """
    if recipe.engine.kind == "ray":
        launch_on_ray(recipe, n_processes, module)
    else:
        launch_here(recipe, n_processes, module)


def launch_here(recipe: Recipe, n_processes: int, module: str) -> None:
    """Run the processes on this machine."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and n_processes > torch.cuda.device_count():
        raise ConfigError(
            f"train.processes: {n_processes} processes need as many GPUs, and this machine has "
            f"{torch.cuda.device_count()}: write that number."
        )
    n_cpus = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, n_cpus // n_processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=n_processes,
        run_id=recipe.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", module, recipe.name)
    except ChildFailedError as error:
        failed_rank, failure = error.get_first_failure()
        if failure.exitcode in EXPLAINED_EXITS:
            sys.exit(failure.exitcode)
        raise RetryableError(
            f"process {failed_rank} of the {n_processes} that train was killed from outside, "
            "perhaps because memory ran out; it is resumed from the last checkpoint."
        ) from None


def launch_on_ray(recipe: Recipe, n_processes: int, module: str) -> None:
    """Run the processes as workers of Ray Train, which call the stage's function."""
    with ray_cluster.explain_connection_errors(recipe.engine.address):
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import WorkerGroupError

        ray.init(recipe.engine.address, ignore_reinit_error=True)
    has_gpu = torch.cuda.is_available()
    trainer = TorchTrainer(
        run_ray_worker,
        train_loop_config={"folder": str(Path.cwd()), "module": module, "recipe": recipe.name},
        torch_config=TorchConfig(backend="nccl" if has_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=n_processes, use_gpu=has_gpu),
        run_config=RunConfig(storage_path=str(RAY_FOLDER.resolve()), name=recipe.name),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise explain_lost_worker(list(error.worker_failures.values())) from None
    finally:
        shutil.rmtree(RAY_FOLDER / recipe.name, ignore_errors=True)


def explain_lost_worker(failures: list[Exception]) -> Exception:
    """Return the error of a worker that said why it failed; else that one was lost."""
    reasons = [getattr(failure, "cause", failure) for failure in failures]
    for reason in reasons:
        if isinstance(reason, StageError):
            return reason
    return RetryableError(
        f"a worker of train on the Ray cluster was lost ({errors.first_line(reasons[0])}); it is "
        "resumed from the last checkpoint."
    )


def run_ray_worker(config: dict[str, str]) -> None:
    """Run the stage in one worker of a Ray cluster.

    Args:
        config: The `folder` to work in, the stage's `module`, and the name of the `recipe`.
    """
    os.chdir(config["folder"])
    sys.path.insert(0, config["folder"])
    module = importlib.import_module(config["module"])
    stage = getattr(module, config["module"].rpartition(".")[2])
    stage(config["recipe"])
