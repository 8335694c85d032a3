"""One training run: its network, optimizer and counters, and the steps that change them.

The order of rows is a pure function of (seed, epoch), random numbers are one of (seed, step, rank).
So a run that is killed and resumed ends with the same weights as one that was not, bit for bit,
on the same device, number of threads and number of processes.

A step updates the weights once, from `gradient_accumulation_steps` batches. Each batch is shared by
all processes, and cut into microbatches if it does not fit into memory. The loss of a step is the
mean over all of its rows, so none of this changes what is learnt. Beside the encoded examples,
memory holds what one microbatch needs.
"""

import itertools
import math
from pathlib import Path
from typing import Any

import torch

from tasks.contracts.epoch_record import EpochRecord
from tasks.core.errors import RetryableError, StageError
from tasks.modalities.base import Example, Trainer
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.training import checkpoint, distributed, memory, moving_average, optimizer, prediction
from tasks.training.checkpoint import Checkpoint, Tensors
from tasks.training.counters import Counters, StepLoss
from tasks.training.objective import LossAndWeight, Objective, ProblemObjective
from tasks.training.training_data import TrainingData

Batches = list[list[int]]  # indices of training rows
N_MICROBATCHES_FILE = "n_microbatches"  # in the run's folder: what a process that gave up needed
MAX_NAMED_ROWS = 5


class TrainingState:
    """A training run.

    Attributes:
        network: Holds the weights that the optimizer moves; with `shard` a part of each.
        parallel: Computes the same, with gradients that are averaged over all processes.
        average: The moving average of the weights, if the recipe has `ema_decay`.
        counters: Where the run stands.
        best_weights: The weights of the best epoch so far.
    """

    def __init__(
        self,
        adapter: Trainer,
        config: Train,
        data: TrainingData,
        folder: Path,
        objective: Objective | None = None,
    ) -> None:
        """Freeze layers, distribute the network, and build its optimizer.

        Args:
            adapter: The modality's trainer, with the network.
            config: How to train.
            data: What to train on.
            folder: The folder of this run's checkpoints.
            objective: What to minimise; by default the loss of the adapter's problem.
        """
        self.adapter = adapter
        self.config = config
        self.data = data
        self.folder = folder
        self.objective = objective or ProblemObjective(adapter.problem, data.targets)
        self.device = distributed.compute_device()
        adapter.network.to(distributed.parameter_device(config.shard))
        optimizer.freeze_parameters(adapter.network, config)
        self.parallel = distributed.parallelize(adapter.network, config.shard)
        self.network = self.parallel if config.shard else adapter.network
        self.optimizer = optimizer.build_optimizer(self.network, config)
        self.autocast = optimizer.build_autocast(
            config, adapter.SUPPORTS_MIXED_PRECISION, self.device
        )
        self.average = moving_average.build_moving_average(self.network, config.ema_decay)
        self.compiled_network: Any = self.parallel
        if config.compile:
            self.compiled_network = torch.compile(self.parallel, dynamic=True)
        self.counters = Counters()
        self.best_weights: Tensors = {}

    def parameters(self) -> list[torch.nn.Parameter]:
        """List what the optimizer moves, in its order."""
        parameters: list[torch.nn.Parameter] = []
        for group in self.optimizer.param_groups:
            parameters.extend(group["params"])
        return parameters

    @property
    def evaluated_network(self) -> torch.nn.Module:
        """The network that is measured and kept: the average, if there is one."""
        return self.average.module if self.average else self.network

    def steps(self, epoch: int) -> list[Batches]:
        """List the batches of each step of an epoch."""
        batches = self.adapter.batches(self.data.examples, epoch)
        size = self.config.gradient_accumulation_steps
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    # Checkpoints

    def save(self) -> None:
        """Write a checkpoint. If the weights are sharded, all processes have to call this."""
        self.record_gpu_memory()
        moments = self.collect_moments()
        weights = distributed.full_state_dict(self.parallel)
        groups = {"weights": weights, "moments": moments, "best": self.best_weights}
        if self.average:
            groups["average"] = self.average.state_dict()
        if distributed.rank() == 0:
            content = Checkpoint(self.counters.to_json(), groups)
            checkpoint.write_checkpoint(self.folder, self.counters.step, content)

    def collect_moments(self) -> Tensors:
        """Return the optimizer's moments by `<number of the parameter>.<name>`."""
        moments: Tensors = {}
        for number, parameter in enumerate(self.parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                whole = distributed.gather(value)
                if distributed.rank() == 0:
                    moments[f"{number}.{name}"] = whole.cpu()
        return moments

    def resume(self, saved: Checkpoint) -> None:
        """Go on from a checkpoint."""
        current = self.network.state_dict()
        weights = {}
        for name, value in saved.groups["weights"].items():
            weights[name] = distributed.shard_like(value, current[name])
        self.network.load_state_dict(weights)
        if self.average:
            self.average.load_state_dict(saved.groups["average"])
        parameters = self.parameters()
        for key, value in saved.groups["moments"].items():
            number, name = key.split(".", 1)
            parameter = parameters[int(number)]
            self.optimizer.state[parameter][name] = distributed.shard_like(value, parameter)
        self.counters = Counters.from_json(saved.state)
        self.best_weights = saved.groups["best"]

    def read_n_microbatches(self) -> None:
        """Cut batches as a process did that ran out of memory after the last checkpoint."""
        path = self.folder / N_MICROBATCHES_FILE
        if path.is_file():
            needed = int(path.read_text())
            self.counters.n_microbatches = max(self.counters.n_microbatches, needed)

    def record_gpu_memory(self) -> None:
        """Note the peak of GPU memory so far."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) >> 20
            self.counters.gpu_mib = max(self.counters.gpu_mib, peak)

    # Steps

    def update(self, batches: Batches, learning_rate: float) -> float:
        """Make one step and return its mean loss.

        Raises:
            StageError: The loss or a gradient is not finite; the weights stay as they were.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        loss = self.accumulate_gradients(batches)
        while loss is None:
            self.halve_microbatch(batches)
            loss = self.accumulate_gradients(batches)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.config.max_grad_norm)
        whole_norm = float(distributed.gather(norm))
        self.check_finite("loss", loss.mean, batches)
        self.check_finite("norm of the gradients", whole_norm, batches)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update_parameters(self.network)
        self.counters.loss_sum += loss.total
        self.counters.weight_sum += loss.weight
        self.counters.step += 1
        self.counters.position += 1
        return loss.mean

    def accumulate_gradients(self, batches: Batches) -> StepLoss | None:
        """Compute the gradients of the step's mean loss; None if memory ran out."""
        generator = self.seed_step()
        n_rows = sum(len(batch) for batch in batches)
        microbatches: Batches = []
        for batch in batches:
            microbatches.extend(self.microbatches(batch))
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss, weight
        try:
            for number, rows in enumerate(microbatches, 1):
                is_last = number == len(microbatches)
                with distributed.gradient_sync(self.parallel, is_last=is_last):
                    loss = self.loss(self.compiled_network, rows or batches[0][:1], generator)
                    sums += self.backpropagate(loss, n_rows, counts=bool(rows))
        except (RuntimeError, MemoryError) as error:
            if memory.is_out_of_memory(error):
                return None
            raise
        total, weight_sum = distributed.sum_over_ranks(sums).tolist()
        self.finish_gradients(n_rows, weight_sum)
        return StepLoss(total, weight_sum)

    def backpropagate(
        self, loss_and_weight: LossAndWeight, n_rows: int, *, counts: bool
    ) -> torch.Tensor:
        """Add the gradients of a microbatch to those of its step.

        A process without a row of its own still takes part in the exchange of gradients, with a
        row that does not count.

        Args:
            loss_and_weight: The summed loss of the microbatch, and what to divide it by.
            n_rows: The rows of the step, in all processes.
            counts: Whether the rows are this process's own.

        Returns:
            Loss and weight as numbers, 0 if they do not count, `[2]`.
        """
        loss, weight = loss_and_weight
        scaled = loss * float(counts) * distributed.world_size() / n_rows
        scaled.backward()  # type: ignore[no-untyped-call]
        weight_tensor = torch.as_tensor(weight, dtype=torch.float64, device=self.device)
        return torch.stack([loss.detach().double(), weight_tensor]) * float(counts)

    def seed_step(self) -> torch.Generator:
        """Seed torch for this step and process, and return a generator for augmentation."""
        step_seed = self.config.seed * 1_000_003 + self.counters.step
        seed = step_seed + (distributed.rank() << 40)
        torch.manual_seed(seed)
        return torch.Generator().manual_seed(seed)

    def parameters_with_gradients(self) -> list[torch.nn.Parameter]:
        """List what this step moves."""
        return [parameter for parameter in self.parameters() if parameter.grad is not None]

    def finish_gradients(self, n_rows: int, weight_sum: float) -> None:
        """Divide by the weight instead of the number of rows, and add the L1 penalty."""
        parameters = self.parameters_with_gradients()
        if weight_sum not in (0, n_rows):
            for parameter in parameters:
                parameter.grad.mul_(n_rows / weight_sum)  # type: ignore[union-attr]
        if self.config.l1:
            add_l1_gradients(parameters, self.config.l1)

    def loss(
        self, network: torch.nn.Module, rows: list[int], generator: torch.Generator | None
    ) -> LossAndWeight:
        """Return the summed loss of some training rows; with a generator they are augmented."""
        examples = [self.data.examples[index] for index in rows]
        batch = self.adapter.collate(examples, generator).to(self.device)
        with self.autocast:
            outputs = network(*batch.inputs)
        return self.objective.loss(outputs, batch, rows)

    def microbatches(self, batch: list[int]) -> Batches:
        """Cut this process's part of a batch into microbatches.

        Every process gets the same number of them, so some may be empty.
        """
        rows = distributed.slice_for_rank(batch)
        longest = math.ceil(len(batch) / distributed.world_size())
        size = math.ceil(longest / self.counters.n_microbatches)
        return [rows[start : start + size] for start in range(0, longest, size)]

    def halve_microbatch(self, batches: Batches) -> None:
        """After a step that did not fit into memory: compute half as many rows at a time.

        Raises:
            StageError: A microbatch has one row already.
            RetryableError: There are several processes. The others are waiting for the gradients
                of this one, so all have to begin again.
        """
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        largest = 0
        for batch in batches:
            largest = max(largest, *(len(rows) for rows in self.microbatches(batch)))
        if largest <= 1:
            raise StageError(self.describe_row_too_large())
        self.counters.n_microbatches *= 2
        message = (
            f"{largest} rows at once do not fit into memory: from step {self.counters.step} on a "
            f"batch is computed in {self.counters.n_microbatches} parts, which add up to the same "
            "batch"
        )
        if distributed.world_size() > 1:
            path = self.folder / N_MICROBATCHES_FILE
            files.write_text(path, str(self.counters.n_microbatches))
            raise RetryableError(f"{message}; all processes begin again at the last checkpoint.")
        print(message, flush=True)

    def describe_row_too_large(self) -> str:
        """Return the message for a single row that does not fit into memory."""
        return (
            f"one row alone does not fit into the memory of the {self.device.type} (step "
            f"{self.counters.step}): lower train.max_length, set train.activation_checkpointing, "
            "or use a smaller model or more memory."
        )

    def check_finite(self, name: str, value: float, batches: Batches) -> None:
        """Raise StageError, with the rows to blame, if a number of this step is not finite."""
        if math.isfinite(value):
            return
        step = f"step {self.counters.step} (epoch {self.counters.epoch + 1})"
        raise StageError(
            f"training diverged: the {name} of {step} is {value}, in "
            f"{self.describe_nonfinite_rows(batches)}: lower train.learning_rate, or look for "
            "extreme values in the data."
        )

    def describe_nonfinite_rows(self, batches: Batches) -> str:
        """Name the rows of a step whose own loss is not finite; all if there is none."""
        rows = list(itertools.chain.from_iterable(batches))
        suspects = self.rows_with_nonfinite_loss(rows) or rows
        names = ", ".join(self.data.row_name(index) for index in suspects[:MAX_NAMED_ROWS])
        if len(suspects) == 1:
            return f"the row {names}"
        n_others = len(suspects) - MAX_NAMED_ROWS
        return f"the rows {names} and {n_others} more" if n_others > 0 else f"the rows {names}"

    @torch.no_grad()
    def rows_with_nonfinite_loss(self, rows: list[int]) -> list[int]:
        """List the rows whose own loss is not finite."""
        self.network.eval()
        nonfinite = []
        for index in rows:
            loss, _ = self.loss(self.network, [index], None)
            if not math.isfinite(loss.item()):
                nonfinite.append(index)
        return nonfinite

    # Epochs

    def predict_examples(self, examples: list[Example]) -> Floats:
        """Return the predictions of the evaluated network, `[examples, width]`."""
        network = self.evaluated_network.eval()
        return prediction.predict_examples(
            network, self.adapter, examples, self.device, self.autocast
        )

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        """Record the epoch, and keep its weights if they are the best so far.

        Of equal epochs the last is kept, because it has seen more and was moved less; on few rows
        many are equal.
        """
        counters = self.counters
        sign = -1 if self.config.metric in LOWER_IS_BETTER else 1
        metric = metrics[self.config.metric] * sign
        self.record_gpu_memory()
        loss = round(counters.loss_sum / counters.weight_sum, 6)
        val = {name: round(value, 6) for name, value in metrics.items()}
        record = EpochRecord(counters.epoch + 1, counters.step, loss, val, counters.gpu_mib)
        counters.history.append(record)
        if metric > counters.best:
            counters.epochs_without_improvement = 0
        else:
            counters.epochs_without_improvement += 1
            if self.config.schedule == "plateau":
                counters.plateau_factor /= 2
        if metric >= counters.best:
            counters.best = metric
            weights = distributed.full_state_dict(self.evaluated_network)
            self.best_weights = {
                name: tensor.detach().cpu().clone() for name, tensor in weights.items()
            }
        counters.epoch += 1
        counters.position = 0
        counters.loss_sum = 0.0
        counters.weight_sum = 0.0


def add_l1_gradients(parameters: list[torch.nn.Parameter], weight: float) -> None:
    """Add the gradients of the L1 penalty to those of matrices; vectors have none."""
    for parameter in parameters:
        if parameter.ndim > 1:
            signs = parameter.detach().sign()
            parameter.grad.add_(signs, alpha=weight)  # type: ignore[union-attr]
