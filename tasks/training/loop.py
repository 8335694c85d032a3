"""The training loop: epochs, checkpoints, early stopping, and the best weights at the end."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts.epoch_record import EpochCallback, History
from tasks.core import errors
from tasks.core.errors import RetryableError
from tasks.modalities.base import InitFunction, Trainer
from tasks.recipe.train import Train
from tasks.telemetry.progress import Progress
from tasks.training import checkpoint, distributed, memory, optimizer
from tasks.training.checkpoint import CheckpointSchedule
from tasks.training.objective import Objective
from tasks.training.state import Batches, TrainingState
from tasks.training.training_data import TrainingData

TENSORS_PER_WEIGHT = 4  # of a checkpoint: the weight, two moments, and the best weight


@dataclass(frozen=True)
class TrainingHooks:
    """What varies between the trainings of one recipe.

    Attributes:
        init: How the weights begin; by default the modality's way, such as a fitted head.
        objective: What is minimised; by default the problem's loss.
        callbacks: Called with the history when training begins or is resumed, and after each
            epoch. What one of them raises ends the training.
    """

    init: InitFunction | None = None
    objective: Objective | None = None
    callbacks: tuple[EpochCallback, ...] = ()


def fit(
    adapter: Trainer,
    config: Train,
    data: TrainingData,
    checkpoints: Path,
    hooks: TrainingHooks | None = None,
) -> History:
    """Train the adapter's network, and leave the weights of its best epoch in it.

    Of equal epochs the last is the best. Training goes on from the latest checkpoint, if there is
    one.

    Args:
        adapter: The modality's trainer.
        config: How to train.
        data: What to train and to measure on.
        checkpoints: The folder of this run's checkpoints.
        hooks: What else varies; by default nothing does.

    Returns:
        One record per epoch.

    Raises:
        StageError: The training diverged, or one row does not fit into memory.
        RetryableError: Memory ran out outside of a step, or the GPU failed.
    """
    hooks = hooks or TrainingHooks()
    optimizer.make_deterministic()
    memory.keep_freed_memory()
    with explain_hardware_errors():
        state = start_or_resume(adapter, config, data, checkpoints, hooks)
        run_epochs(state, hooks.callbacks)
    if state.best_weights:
        adapter.network.load_state_dict(state.best_weights)
    return state.counters.history


@contextlib.contextmanager
def explain_hardware_errors() -> Iterator[None]:
    """Turn errors of the hardware, which another try may not meet, into RetryableError."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = errors.first_line(error)
        if memory.is_out_of_memory(error):
            raise RetryableError(
                f"no memory is left on the {distributed.compute_device().type} ({reason}): lower "
                "train.batch_size or train.batch_tokens."
            ) from None
        if "CUDA error" in str(error):
            raise RetryableError(
                f"the GPU failed or is gone ({reason}): training goes on from the last checkpoint "
                "once there is one."
            ) from None
        raise


def start_or_resume(
    adapter: Trainer, config: Train, data: TrainingData, checkpoints: Path, hooks: TrainingHooks
) -> TrainingState:
    """Build the state of a run: from its latest checkpoint, else with the first weights."""
    saved = checkpoint.load_latest(checkpoints)
    if saved is None and distributed.rank() == 0:  # the other processes get its weights
        set_first_weights(adapter, config, data, hooks.init or adapter.prepare)
    state = TrainingState(adapter, config, data, checkpoints, hooks.objective)
    if saved:
        state.resume(saved)
    state.read_n_microbatches()
    return state


def set_first_weights(
    adapter: Trainer, config: Train, data: TrainingData, init: InitFunction
) -> None:
    """Set the weights that training begins with."""
    device = distributed.parameter_device(config.shard)
    adapter.network.to(device)
    with optimizer.build_autocast(config, adapter.SUPPORTS_MIXED_PRECISION, device):
        init(data.examples, data.targets)


def run_epochs(state: TrainingState, callbacks: tuple[EpochCallback, ...]) -> None:
    """Train until the last epoch, or until `patience` epochs brought no improvement."""
    config = state.config
    counters = state.counters
    progress = build_progress(state)
    schedule = build_checkpoint_schedule(state)
    if counters.step:
        epoch = counters.epoch + 1
        progress.print_line(f"resumed at step {counters.step} (epoch {epoch}) from {state.folder}")
    call_back(callbacks, counters.history)
    while counters.epoch < config.epochs and counters.epochs_without_improvement < config.patience:
        run_epoch(state, progress, schedule)
        call_back(callbacks, counters.history)
    if counters.epoch < config.epochs:
        progress.print_line(
            f"ended after epoch {counters.epoch}: {config.metric} was no better for "
            f"{counters.epochs_without_improvement} in a row (train.patience)"
        )
    progress.print_line(schedule.describe())


def run_epoch(state: TrainingState, progress: Progress, schedule: CheckpointSchedule) -> None:
    """Make the steps of an epoch that are left, and measure the network after them."""
    counters = state.counters
    state.network.train()
    for batches in state.steps(counters.epoch)[counters.position :]:
        rate = optimizer.compute_learning_rate(
            state.config, counters.step, progress.n_steps, counters.plateau_factor
        )
        loss = state.update(batches, rate)
        progress.step(counters.epoch, counters.step, loss, count_units(state, batches))
        if is_checkpoint_due(state.config, schedule):
            schedule.measure(state.save)
    predictions = state.predict_examples(state.data.val_examples)
    state.finish_epoch(state.adapter.problem.measure(state.data.val_targets, predictions))
    progress.epoch()


def build_progress(state: TrainingState) -> Progress:
    """Build the progress line, which the first process shows."""
    config = state.config
    n_steps = sum(len(state.steps(epoch)) for epoch in range(config.epochs))
    unit = state.adapter.UNIT
    is_shown = distributed.rank() == 0
    first_step = state.counters.step
    history = state.counters.history
    return Progress(n_steps, config.epochs, first_step, is_shown, unit, config.metric, history)


def count_units(state: TrainingState, batches: Batches) -> int:
    """Count the rows or tokens of a step, whatever the modality's unit of progress is."""
    n_units = 0
    for batch in batches:
        examples = [state.data.examples[index] for index in batch]
        n_units += sum(state.adapter.count_units(example) for example in examples)
    return n_units


def build_checkpoint_schedule(state: TrainingState) -> CheckpointSchedule:
    """Build the schedule of checkpoints from the recipe and the size of the network."""
    n_bytes = sum(parameter.nbytes for parameter in state.network.parameters())
    return CheckpointSchedule(state.config.checkpoint_seconds, n_bytes * TENSORS_PER_WEIGHT)


def is_checkpoint_due(config: Train, schedule: CheckpointSchedule) -> bool:
    """Return whether this process has to call `save` now."""
    if config.shard:  # all processes write it together, so the first one decides for all
        return distributed.broadcast_flag(schedule.is_due())
    return distributed.rank() == 0 and schedule.is_due()


def call_back(callbacks: tuple[EpochCallback, ...], history: History) -> None:
    """Call all callbacks with the history."""
    for callback in callbacks:
        callback(history)
