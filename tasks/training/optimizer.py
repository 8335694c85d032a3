"""What is learnt, and how fast: precision, frozen layers, the optimizer and its rates, the schedule."""

import math
import os

import torch

from tasks.core.errors import ConfigError
from tasks.recipe.train import Train
from tasks.training import distributed

SGD_MOMENTUM = 0.9


def make_deterministic() -> None:
    """From here on torch gives equal bits for equal inputs, or refuses."""
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # without it cuBLAS is not deterministic, and torch refuses to use it
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a tenth of a step's time, for memory that nobody reads before it is written


def build_autocast(section: Train, mixed: bool, where: torch.device) -> torch.autocast:
    """bf16 as the recipe says; with `auto` where the modality gains from it and the hardware has it."""
    enabled = section.precision == "bf16" or (
        section.precision == "auto" and mixed and distributed.has_bf16(where)
    )
    return torch.autocast(where.type, torch.bfloat16, enabled=enabled)


def measure_depths(network: torch.nn.Module) -> tuple[dict[str, int], int]:
    """How far each parameter is from the input: 0 for embeddings, 1 to n for the encoder's layers, n + 1 for what follows them; and n."""
    stacks = [
        (sum(p.numel() for p in module.parameters()), name, len(module))
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.ModuleList)
    ]
    _, stack, layers = max(stacks, default=(0, "", 0))
    found, depth = {}, 0
    for (
        name,
        _,
    ) in (
        network.named_parameters()
    ):  # in the order in which modules were made, which is that of the computation
        if layers and name.startswith(f"{stack}."):
            depth = 1 + int(name.removeprefix(f"{stack}.").split(".")[0])
        elif depth:
            depth = layers + 1
        found[name] = depth
    return found, layers


def freeze_parameters(network: torch.nn.Module, section: Train) -> None:
    """Exclude from training what the recipe says: the embeddings, they and the first layers, or all but the head."""
    depth, layers = measure_depths(network)
    if isinstance(section.freeze, int) and section.freeze > layers:
        raise ConfigError(
            f"train.freeze: {section.freeze} layers are to be frozen, but the base has {layers}: write {layers} or fewer, or all."
        )
    last = section.freeze if isinstance(section.freeze, int) else 0
    for name, parameter in network.named_parameters():
        if section.freeze is not None:
            parameter.requires_grad_(
                name.startswith("head.") if section.freeze == "all" else depth[name] > last
            )


def build_optimizer(network: torch.nn.Module, section: Train) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), or SGD with Nesterov's momentum. Vectors, such as biases, do not decay.

    A group's `scale` is its share of the learning rate: with layerwise_lr_decay, less for each layer nearer to the input (Howard and Ruder 2018).
    """
    depth, layers = measure_depths(network)
    groups: dict[tuple[bool, int], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            below = layers + 1 - depth[name] if layers and section.layerwise_lr_decay < 1 else 0
            groups.setdefault((parameter.ndim <= 1, below), []).append(parameter)
    listed = [
        {
            "params": groups[vector, below],
            "weight_decay": 0.0 if vector else section.weight_decay,
            "scale": section.layerwise_lr_decay**below,
        }
        for vector, below in sorted(groups)
    ]
    if section.optimizer == "sgd":
        return torch.optim.SGD(
            listed, lr=section.learning_rate, momentum=SGD_MOMENTUM, nesterov=True, fused=True
        )
    return torch.optim.AdamW(listed, lr=section.learning_rate, fused=True)


def compute_learning_rate(section: Train, step: int, steps: int, factor: float) -> float:
    """The learning rate of a step: linear warm-up, then as the schedule says; `factor` is how far plateau has lowered it."""
    warmup = max(1, round(section.warmup * steps))
    if step < warmup:
        return section.learning_rate * (step + 1) / warmup
    left = (steps - step) / max(1, steps - warmup)
    shape = {
        "linear": left,
        "cosine": (1 - math.cos(math.pi * left)) / 2,
        "plateau": factor,
        "constant": 1.0,
    }
    return section.learning_rate * shape[section.schedule]
