"""Launch."""

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

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


def launch_processes(recipe: Recipe, processes: int, step: str) -> None:
    """Run `python -m STEP RECIPE` in several processes and wait for them; ends this process as the one that failed first did.

    They are processes of this machine, or workers of the recipe's Ray cluster, which have to see this folder. There are no restarts here: whoever runs the
    step decides whether it is run again, and it then goes on from the last checkpoint.
    """
    if recipe.engine.kind == "ray":
        launch_on_ray(recipe, processes, step)
        return
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise ConfigError(
            f"train.processes: {processes} processes need as many GPUs, and this machine has {torch.cuda.device_count()}: write that number."
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))
    config = LaunchConfig(
        1,
        1,
        processes,
        run_id=recipe.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", step, recipe.name)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode in (1, EXIT_CONFIG_ERROR, EXIT_RETRYABLE):
            sys.exit(failure.exitcode)  # it has said why, here and in the status file
        raise RetryableError(
            f"process {number} of the {processes} that train was killed from outside, perhaps for want of memory; it is taken up where it was."
        ) from None


def launch_on_ray(recipe: Recipe, processes: int, step: str) -> None:
    """The same with Ray Train, whose workers call the step's function."""
    with ray_cluster.explain_connection_errors(recipe.engine.address):
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import WorkerGroupError

        ray.init(recipe.engine.address, ignore_reinit_error=True)
    trainer = TorchTrainer(
        run_ray_worker,
        train_loop_config={"folder": os.getcwd(), "step": step, "recipe": recipe.name},
        torch_config=TorchConfig(backend="nccl" if torch.cuda.is_available() else "gloo"),
        scaling_config=ScalingConfig(num_workers=processes, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(
            storage_path=str(Path("checkpoints/.ray").resolve()), name=recipe.name
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        reasons = [getattr(failure, "cause", failure) for failure in error.worker_failures.values()]
        lost = RetryableError(
            f"a worker of train on the Ray cluster was lost ({errors.first_line(reasons[0])}); it is taken up where it was."
        )
        raise next((reason for reason in reasons if isinstance(reason, StageError)), lost) from None
    finally:
        shutil.rmtree(Path("checkpoints/.ray") / recipe.name, ignore_errors=True)


def run_ray_worker(about: dict[str, Any]) -> None:
    """One worker on a Ray cluster."""
    os.chdir(about["folder"])
    sys.path.insert(0, about["folder"])
    step = importlib.import_module(about["step"])
    getattr(step, about["step"].rpartition(".")[2])(about["recipe"])
