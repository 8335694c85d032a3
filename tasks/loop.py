"""The training loop, in plain torch. Data order is a pure function of (seed, epoch), random numbers of (seed, step): a run that is killed and
resumed ends with the weights of one that was not, bit for bit, on the same device and thread count."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tasks import checkpoint, intervals
from tasks.modalities import Trainer
from tasks.recipe import LOWER_IS_BETTER, Train
from tasks.step import Failure, Retryable

REPORT_SECONDS = 5.0
Watch = Callable[[list[dict[str, Any]]], None]


def nobody(history: list[dict[str, Any]]) -> None:
    """Nobody watches."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bf16(where: torch.device) -> bool:
    """Whether the hardware multiplies bf16; where it only emulates it, it would be slower than fp32."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def rate(step: int, steps: int, section: Train) -> float:
    """Linear warm-up, then linear decay to zero."""
    warmup = max(1, round(section.warmup * steps))
    factor = (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
    return section.learning_rate * min(1.0, factor)


class Run:
    """The state of one training run: what a checkpoint holds."""

    def __init__(self, adapter: Trainer, section: Train, where: torch.device) -> None:
        self.adapter, self.section, self.device = adapter, section, where
        self.network = adapter.network.to(where)
        decayed = [parameter for parameter in self.network.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.network.parameters() if parameter.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=section.learning_rate, fused=True)
        self.autocast = torch.autocast(where.type, torch.bfloat16, enabled=adapter.mixed and has_bf16(where))
        self.step = 0
        self.position = 0  # batches done in this epoch
        self.epoch = 0
        self.loss_sum = 0.0
        self.best = -math.inf
        self.stale = 0  # epochs since the best
        self.best_weights: checkpoint.Tensors = {}
        self.history: list[dict[str, Any]] = []

    def save(self, folder: Path) -> None:
        moments: checkpoint.Tensors = {}
        for number, parameter in enumerate(self.parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                moments[f"{number}.{name}"] = value
        plain = ("step", "position", "epoch", "loss_sum", "stale", "history")
        state = {name: getattr(self, name) for name in plain} | {"best": self.best if math.isfinite(self.best) else None}
        checkpoint.save(folder, self.step, state, {"weights": self.network.state_dict(), "moments": moments, "best": self.best_weights})

    def resume(self, folder: Path) -> bool:
        loaded = checkpoint.latest(folder)
        if loaded is None:
            return False
        state, groups = loaded
        self.network.load_state_dict(groups["weights"])
        parameters = self.parameters()
        for key, value in groups["moments"].items():
            number, name = key.split(".", 1)
            self.optimizer.state[parameters[int(number)]][name] = value.to(self.device) if name != "step" else value
        for name, value in state.items():
            setattr(self, name, value)
        self.best = -math.inf if state["best"] is None else state["best"]
        self.best_weights = groups["best"]
        return True

    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def update(self, inputs: tuple[torch.Tensor, ...], labels: torch.Tensor, learning_rate: float) -> float:
        """One optimizer step; returns the batch's loss. Raises Failure where it is not a number."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with self.autocast:
            logits = self.network(*inputs)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=self.section.label_smoothing)
        if self.section.l1:
            loss = loss + self.section.l1 * sum(parameter.abs().sum() for parameter in self.parameters() if parameter.ndim > 1)
        value = loss.item()
        if not math.isfinite(value):
            raise Failure(
                f"training diverged: the loss of step {self.step} (epoch {self.epoch + 1}) is {value}: lower train.learning_rate, or look for extreme values in the data."
            )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.section.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    @torch.no_grad()
    def probabilities(self, examples: list[Any]) -> NDArray[np.float64]:
        """The network's probabilities for examples, shape (examples, classes)."""
        self.network.eval()
        result: NDArray[np.float64] | None = None
        for batch in self.adapter.batches(examples, None):
            inputs = tuple(tensor.to(self.device) for tensor in self.adapter.collate([examples[index] for index in batch], None))
            with self.autocast:
                logits = self.network(*inputs)
            part = logits.float().softmax(1).cpu().double().numpy()
            result = np.zeros((len(examples), part.shape[1])) if result is None else result
            result[batch] = part
        assert result is not None
        return result


def fit(
    adapter: Trainer,
    section: Train,
    rows: list[Any],
    labels: NDArray[np.int64],
    val: list[Any],
    val_labels: NDArray[np.int64],
    checkpoints: Path,
    watch: Watch = nobody,
) -> list[dict[str, Any]]:
    """Train the adapter's network and leave the weights of its best epoch in it; returns one record per epoch.

    `rows` and `val` are encoded examples, `labels` and `val_labels` class indices of shape (rows,). Takes up from `checkpoints` where a run was cut off.
    `watch` is given the history when training begins or is taken up and after each epoch; what it raises ends the training.
    """
    if checkpoint.latest(checkpoints) is None:
        adapter.prepare(rows, labels)
    run = Run(adapter, section, device())
    if run.resume(checkpoints):
        print(f"resumed at step {run.step} (epoch {run.epoch + 1}) from {checkpoints}", flush=True)
    watch(run.history)
    targets = torch.from_numpy(labels)
    steps = sum(len(adapter.batches(rows, epoch)) for epoch in range(section.epochs))
    saved, progress = time.monotonic(), Progress(steps, section.epochs)
    try:
        while run.epoch < section.epochs and run.stale < section.patience:
            batches = adapter.batches(rows, run.epoch)
            run.network.train()
            for batch in batches[run.position :]:
                torch.manual_seed(section.seed * 1_000_003 + run.step)
                generator = torch.Generator().manual_seed(section.seed * 1_000_003 + run.step)
                inputs = tuple(tensor.to(run.device) for tensor in adapter.collate([rows[index] for index in batch], generator))
                loss = run.update(inputs, targets[batch].to(run.device), rate(run.step, steps, section))
                run.loss_sum += loss * len(batch)
                run.step += 1
                run.position += 1
                progress.show(run, loss, len(batch))
                if time.monotonic() - saved >= section.checkpoint_seconds:
                    run.save(checkpoints)
                    saved = time.monotonic()
            finish_epoch(run, len(rows), intervals.measure(val_labels, run.probabilities(val)))
            progress.epoch(run)
            watch(run.history)
    except torch.OutOfMemoryError as error:
        raise Retryable(f"the GPU has no memory left for a batch ({str(error).splitlines()[0]}): lower train.batch_size or train.batch_tokens.") from None
    run.network.load_state_dict(run.best_weights)
    return run.history


def finish_epoch(run: Run, rows: int, measured: dict[str, float]) -> None:
    """Record the epoch and keep its weights where they are the best so far on the validation split."""
    metric = measured[run.section.metric] * (-1 if run.section.metric in LOWER_IS_BETTER else 1)
    run.history.append(
        {
            "epoch": run.epoch + 1,
            "step": run.step,
            "loss": round(run.loss_sum / rows, 6),
            **{f"val_{name}": round(value, 6) for name, value in measured.items()},
        }
    )
    run.stale += 1
    if metric > run.best:
        run.best, run.stale = metric, 0
        run.best_weights = {name: tensor.detach().cpu().clone() for name, tensor in run.network.state_dict().items()}
    run.epoch += 1
    run.position, run.loss_sum = 0, 0.0


class Progress:
    """A line of progress: redrawn in place on a terminal, every few seconds in a log."""

    def __init__(self, steps: int, epochs: int) -> None:
        self.steps, self.epochs = steps, epochs
        self.begun = self.shown = time.monotonic()
        self.first: int | None = None
        self.rows = 0
        self.terminal = sys.stderr.isatty()

    def show(self, run: Run, loss: float, rows: int) -> None:
        self.first = run.step - 1 if self.first is None else self.first
        self.rows += rows
        now = time.monotonic()
        if now - self.shown < (0.2 if self.terminal else REPORT_SECONDS):
            return
        self.shown = now
        spent = now - self.begun
        left = spent / (run.step - self.first) * (self.steps - run.step)
        line = f"epoch {run.epoch + 1}/{self.epochs}  step {run.step}/{self.steps}  loss {loss:.3f}  {self.rows / spent:,.0f} rows/s  {left:.0f} s left"
        print(f"\r{line}   " if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)

    def epoch(self, run: Run) -> None:
        last = run.history[-1]
        text = "  ".join(f"{name} {value:.4f}" for name, value in last.items() if name not in ("epoch", "step"))
        print(("\r" if self.terminal else "") + f"epoch {last['epoch']}/{self.epochs} done  {text}", file=sys.stderr, flush=True)
