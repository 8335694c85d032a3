"""Loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.contracts.epoch_record import EpochCallback, History
from tasks.core import errors
from tasks.core.errors import RetryableError
from tasks.modalities.base import Trainer
from tasks.problems.base import Targets
from tasks.recipe.train import Train
from tasks.telemetry.progress import Progress
from tasks.training import checkpoint, distributed, memory, optimizer
from tasks.training.checkpoint import CheckpointSchedule
from tasks.training.state import TrainingState


def no_callback(history: History) -> None:
    """Nobody watches."""


def fit(
    adapter: Trainer,
    section: Train,
    rows: list[Any],
    targets: Targets,
    val: list[Any],
    val_targets: Targets,
    checkpoints: Path,
    ids: Sequence[str] | None = None,
    watch: EpochCallback = no_callback,
) -> History:
    """Train the adapter's network and leave the weights of its best epoch, of equal ones the last, in it; returns one record per epoch.

    `rows` and `val` are encoded examples, the targets of shape (rows, …), `ids` what messages call the rows. Takes up from `checkpoints` where a run was cut off.
    `watch` is given the history when training begins or goes on, and after each epoch; what it raises ends the training.
    """
    optimizer.make_deterministic()
    memory.keep_freed_memory()
    try:
        found = checkpoint.load_latest(checkpoints)
        if found is None and distributed.rank() == 0:
            where = distributed.parameter_device(section.shard)
            adapter.network.to(where)
            with optimizer.build_autocast(section, adapter.SUPPORTS_MIXED_PRECISION, where):
                adapter.prepare(rows, targets)
        run = TrainingState(
            adapter,
            section,
            rows,
            targets,
            ids or [f"number {number}" for number in range(1, len(rows) + 1)],
            checkpoints,
        )
        if found:
            run.resume(*found)
        if (checkpoints / "pieces").is_file():
            run.pieces = max(run.pieces, int((checkpoints / "pieces").read_text()))
        run_epochs(run, val, val_targets, watch)
    except (RuntimeError, MemoryError) as error:
        if memory.is_out_of_memory(error):
            raise RetryableError(
                f"no memory is left on the {distributed.compute_device().type} ({errors.first_line(error)}): lower train.batch_size or train.batch_tokens."
            ) from None
        if "CUDA error" in str(error):
            raise RetryableError(
                f"the GPU failed or is gone ({errors.first_line(error)}): training goes on from the last checkpoint once there is one."
            ) from None
        raise
    if run.best_weights:
        adapter.network.load_state_dict(run.best_weights)
    return run.history


def run_epochs(
    run: TrainingState, val: list[Any], val_targets: Targets, watch: EpochCallback
) -> None:
    section, first = run.section, distributed.rank() == 0
    steps = sum(len(run.steps(epoch)) for epoch in range(section.epochs))
    progress = Progress(
        steps, section.epochs, run.step, first, run.adapter.UNIT, section.metric, run.history
    )
    clock = CheckpointSchedule(
        section.checkpoint_seconds,
        sum(parameter.nbytes for parameter in run.network.parameters()) * 4,
    )
    if run.step:
        progress.print_line(f"resumed at step {run.step} (epoch {run.epoch + 1}) from {run.folder}")
    watch(run.history)
    while run.epoch < section.epochs and run.stale < section.patience:
        run.network.train()
        for batches in run.steps(run.epoch)[run.position :]:
            loss = run.update(
                batches, optimizer.compute_learning_rate(section, run.step, steps, run.factor)
            )
            progress.step(
                run.epoch,
                run.step,
                loss,
                sum(
                    run.adapter.count_units(run.rows[index]) for batch in batches for index in batch
                ),
            )
            if (
                distributed.broadcast_flag(clock.is_due())
                if section.shard
                else first and clock.is_due()
            ):
                clock.measure(run.save)
        run.finish_epoch(run.adapter.problem.measure(val_targets, run.scores(val)))
        progress.epoch()
        watch(run.history)
    if run.epoch < section.epochs:
        progress.print_line(
            f"ended after epoch {run.epoch}: {section.metric} was no better for {run.stale} in a row (train.patience)"
        )
    progress.print_line(clock.told())
