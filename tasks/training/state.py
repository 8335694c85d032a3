"""The training loop, in plain torch. Data order is a pure function of (seed, epoch), random numbers of (seed, step, rank): a run that is killed and
resumed ends with the weights of one that was not, bit for bit, on the same device and thread count.

A step is one update of the weights: from `gradient_accumulation_steps` batches of the modality, each shared by all processes, and cut into parts where it does not fit into
memory. Its loss is the mean over all of its rows, so none of these changes what is learnt. Memory holds the encoded examples and one part's step.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import AveragedModel

from tasks.contracts.epoch_record import EpochRecord, History
from tasks.core.errors import RetryableError, StageError
from tasks.modalities.base import Trainer
from tasks.problems.base import Targets
from tasks.recipe.metric_names import LOWER_IS_BETTER
from tasks.recipe.train import Train
from tasks.storage import files
from tasks.training import checkpoint, distributed, memory, optimizer
from tasks.training.checkpoint import Tensors

Batches = list[list[int]]  # row numbers


class TrainingState:
    """One training run; `STATE`, the history and the weights are what a checkpoint holds."""

    STATE = (
        "step",
        "position",
        "epoch",
        "loss_sum",
        "weight_sum",
        "stale",
        "factor",
        "pieces",
        "gpu_mib",
    )

    def __init__(
        self,
        adapter: Trainer,
        section: Train,
        rows: list[Any],
        targets: Targets,
        ids: Sequence[str],
        folder: Path,
    ) -> None:
        self.adapter, self.section, self.rows, self.ids, self.folder = (
            adapter,
            section,
            rows,
            ids,
            folder,
        )
        self.targets = torch.from_numpy(targets)
        self.device = distributed.compute_device()
        optimizer.freeze_parameters(
            adapter.network.to(distributed.parameter_device(section.shard)), section
        )
        self.parallel = distributed.parallelize(adapter.network, section.shard)
        self.network = self.parallel if section.shard else adapter.network
        self.optimizer = optimizer.build_optimizer(self.network, section)
        self.autocast = optimizer.build_autocast(
            section, adapter.SUPPORTS_MIXED_PRECISION, self.device
        )
        self.average = (
            AveragedModel(
                self.network, multi_avg_fn=partial(ema_update, section.ema_decay), use_buffers=True
            )
            if section.ema_decay
            else None
        )
        self.compiled_network: Any = (
            torch.compile(self.parallel, dynamic=True) if section.compile else self.parallel
        )
        self.step = 0
        self.position = 0  # steps done in this epoch
        self.epoch = 0
        self.loss_sum = self.weight_sum = 0.0
        self.best = -math.inf
        self.stale = 0  # epochs since the best
        self.factor = 1.0  # what is left of the learning rate, with the schedule plateau
        self.pieces = 1  # parts in which a batch is computed
        self.gpu_mib = (
            0  # the most memory of the GPU that tensors have held, also before the run was cut off
        )
        self.best_weights: Tensors = {}
        self.history: History = []

    def save(self) -> None:
        self.record_gpu_memory()
        moments: Tensors = {}
        for number, parameter in enumerate(self.parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                whole = distributed.gather(value)
                if distributed.rank() == 0:
                    moments[f"{number}.{name}"] = whole.cpu()
        state = {name: getattr(self, name) for name in self.STATE}
        state["best"] = self.best if math.isfinite(self.best) else None
        state["history"] = [record.flat() for record in self.history]
        weights = distributed.full_state_dict(self.parallel)
        if distributed.rank() == 0:
            groups = {"weights": weights, "moments": moments, "best": self.best_weights}
            checkpoint.write_checkpoint(
                self.folder,
                self.step,
                state,
                {**groups, "average": self.average.state_dict()} if self.average else groups,
            )

    def resume(self, state: dict[str, Any], groups: dict[str, Tensors]) -> None:
        own = self.network.state_dict()
        self.network.load_state_dict(
            {
                name: distributed.shard_like(value, own[name])
                for name, value in groups["weights"].items()
            }
        )
        if self.average:
            self.average.load_state_dict(groups["average"])
        parameters = self.parameters()
        for key, value in groups["moments"].items():
            number, name = key.split(".", 1)
            parameter = parameters[int(number)]
            self.optimizer.state[parameter][name] = distributed.shard_like(value, parameter)
        for name in self.STATE:
            setattr(self, name, state[name])
        self.history = [EpochRecord.read(record) for record in state["history"]]
        self.best = -math.inf if state["best"] is None else state["best"]
        self.best_weights = groups["best"]

    def record_gpu_memory(self) -> None:
        if self.device.type == "cuda":
            self.gpu_mib = max(self.gpu_mib, torch.cuda.max_memory_allocated(self.device) >> 20)

    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    @property
    def judged(self) -> torch.nn.Module:
        """What is measured, and kept: the average where there is one."""
        return self.average.module if self.average else self.network

    def steps(self, epoch: int) -> list[Batches]:
        batches = self.adapter.batches(self.rows, epoch)
        return [
            batches[start : start + self.section.gradient_accumulation_steps]
            for start in range(0, len(batches), self.section.gradient_accumulation_steps)
        ]

    def update(self, batches: Batches, learning_rate: float) -> float:
        """One step; returns its mean loss. Raises Failure, and leaves the weights, where that or a gradient is not a number."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        while (summed := self.accumulate_gradients(batches)) is None:
            self.halve_microbatch(batches)
        loss = summed[0] / summed[1] if summed[1] else 0.0
        norm = float(
            distributed.gather(
                torch.nn.utils.clip_grad_norm_(self.parameters(), self.section.max_grad_norm)
            )
        )
        for name, value in (("loss", loss), ("norm of the gradients", norm)):
            if not math.isfinite(value):
                raise StageError(
                    f"training diverged: the {name} of step {self.step} (epoch {self.epoch + 1}) is {value}, in {self.rows_with_nonfinite_loss(batches)}: "
                    "lower train.learning_rate, or look for extreme values in the data."
                )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update_parameters(self.network)
        self.loss_sum += summed[0]
        self.weight_sum += summed[1]
        self.step += 1
        self.position += 1
        return loss

    def accumulate_gradients(self, batches: Batches) -> tuple[float, float] | None:
        """Leave the gradients of the step's mean loss; returns the loss's sum and what it is to be divided by, or None where memory was too small."""
        seed = self.section.seed * 1_000_003 + self.step + (distributed.rank() << 40)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        rows = sum(len(batch) for batch in batches)
        parts = [part for batch in batches for part in self.parts(batch)]
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        try:
            for number, part in enumerate(parts):
                counted = float(
                    bool(part)
                )  # a process without a row of its own still takes part, with one that does not count
                with distributed.gradient_sync(self.parallel, number == len(parts) - 1):
                    loss, weight = self.loss(
                        self.compiled_network, part or batches[0][:1], generator
                    )
                    (loss * counted * distributed.world_size() / rows).backward()  # type: ignore[no-untyped-call]
                sums += (
                    torch.stack(
                        [
                            loss.detach().double(),
                            torch.as_tensor(weight, dtype=torch.float64, device=self.device),
                        ]
                    )
                    * counted
                )
        except (RuntimeError, MemoryError) as error:
            if memory.is_out_of_memory(error):
                return None
            raise
        summed, weighed = distributed.sum_over_ranks(sums).tolist()
        for parameter in self.parameters():
            if parameter.grad is not None and weighed not in (0, rows):
                parameter.grad.mul_(rows / weighed)
            if parameter.grad is not None and self.section.l1 and parameter.ndim > 1:
                parameter.grad.add_(parameter.detach().sign(), alpha=self.section.l1)
        return summed, weighed

    def loss(
        self, network: torch.nn.Module, part: list[int], generator: torch.Generator | None
    ) -> tuple[torch.Tensor, float]:
        batch = self.adapter.collate([self.rows[index] for index in part], generator)
        batch = batch.to(self.device)
        with self.autocast:
            outputs = network(*batch.inputs)
        return self.adapter.problem.loss(outputs, batch, self.targets[part].to(self.device))

    def parts(self, batch: list[int]) -> Batches:
        """This process's share of a batch, in `pieces` parts or fewer: as many in every process, so some may be empty."""
        mine, most = (
            distributed.slice_for_rank(batch),
            math.ceil(len(batch) / distributed.world_size()),
        )
        length = math.ceil(most / self.pieces)
        return [mine[start : start + length] for start in range(0, most, length)]

    def halve_microbatch(self, batches: Batches) -> None:
        """After a step that did not fit into memory: half the rows at a time, twice the accumulation."""
        self.optimizer.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        largest = max(len(part) for batch in batches for part in self.parts(batch))
        if largest <= 1:
            raise StageError(
                f"one row alone does not fit into the memory of the {self.device.type} (step {self.step}): "
                "lower train.max_length, set train.activation_checkpointing, or use a smaller model or more memory."
            )
        self.pieces *= 2
        said = f"{largest} rows at once do not fit into memory: from step {self.step} on a batch is computed in {self.pieces} parts, which add up to the same batch"
        if (
            distributed.world_size() > 1
        ):  # the others are waiting for this one's gradients, so all begin again
            files.write_text(self.folder / "pieces", str(self.pieces))
            raise RetryableError(f"{said}; all processes begin again at the last checkpoint.")
        print(said, flush=True)

    @torch.no_grad()
    def rows_with_nonfinite_loss(self, batches: Batches) -> str:
        """The rows of a step whose own loss is no number, or all where none is alone to blame."""
        self.network.eval()
        rows = [index for batch in batches for index in batch]
        blamed = [
            index
            for index in rows
            if not math.isfinite(self.loss(self.network, [index], None)[0].item())
        ] or rows
        more = f" and {len(blamed) - 5} more" if len(blamed) > 5 else ""
        return f"{'the row' if len(blamed) == 1 else 'the rows'} {', '.join(self.ids[index] for index in blamed[:5])}{more}"

    @torch.no_grad()
    def scores(self, examples: list[Any]) -> NDArray[np.float64]:
        """What the adapter measures a model by, for each example, shape (examples, numbers)."""
        network = self.judged.eval()
        result = torch.zeros(0)
        batches = self.adapter.batches(examples, None)
        mine = distributed.slice_for_rank(batches)
        for number in range(
            math.ceil(len(batches) / distributed.world_size())
        ):  # as many in every process
            batch, counted = (mine[number], 1.0) if number < len(mine) else (batches[0], 0.0)
            collated = self.adapter.collate([examples[index] for index in batch], None)
            collated = collated.to(self.device)
            with self.autocast:
                outputs = network(*collated.inputs)
                part = self.adapter.problem.predict_batch(outputs, collated).double()
            result = (
                result
                if len(result)
                else torch.zeros(
                    len(examples), part.shape[1], dtype=torch.float64, device=self.device
                )
            )
            result[batch] += part * counted
        return distributed.sum_over_ranks(result).cpu().numpy()

    def finish_epoch(self, measured: dict[str, float]) -> None:
        """Record the epoch and keep its weights where they are the best so far on the validation split."""
        metric = measured[self.section.metric] * (
            -1 if self.section.metric in LOWER_IS_BETTER else 1
        )
        self.record_gpu_memory()
        loss = round(self.loss_sum / self.weight_sum, 6)
        val = {name: round(value, 6) for name, value in measured.items()}
        self.history.append(EpochRecord(self.epoch + 1, self.step, loss, val, self.gpu_mib))
        self.stale = 0 if metric > self.best else self.stale + 1
        if self.stale and self.section.schedule == "plateau":
            self.factor /= 2
        if (
            metric >= self.best
        ):  # of equal ones the last, which has seen more and was moved less: on few rows many are equal
            self.best = metric
            self.best_weights = {
                name: tensor.detach().cpu().clone()
                for name, tensor in distributed.full_state_dict(self.judged).items()
            }
        self.epoch += 1
        self.position, self.loss_sum, self.weight_sum = 0, 0.0, 0.0


@torch.no_grad()
def ema_update(
    share: float, averages: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor
) -> None:
    """Move averages towards the weights: they keep `share` of themselves, in the first steps less, or a short training would keep its start (Kingma and Ba 2015)."""
    kept = min(share, float((1 + steps) / (10 + steps)))
    for average, weights in zip(averages, current, strict=True):
        if average.is_floating_point():
            average.lerp_(weights, 1 - kept)
        else:
            average.copy_(weights)  # numbers of tokens, counts of batches
