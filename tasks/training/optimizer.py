"""Which weights are learnt, and how fast: precision, frozen layers, optimizer, schedule."""

import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from tasks.core.errors import ConfigError
from tasks.recipe.train import Train
from tasks.training import distributed

SGD_MOMENTUM = 0.9


def make_deterministic() -> None:
    """Have torch compute equal bits from equal inputs from here on, or refuse."""
    # Without it cuBLAS is not deterministic, and torch refuses to use it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    # A tenth of a step's time, for memory that nobody reads before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def build_autocast(
    config: Train,
    supports_mixed_precision: bool,  # noqa: FBT001
    device: torch.device,
) -> torch.autocast:
    """Build the context in which a network computes: in bf16, or as its weights are.

    With `precision: auto` it is bf16 if the modality gains from it and the hardware has it.
    """
    is_enabled = config.precision == "bf16"
    if config.precision == "auto":
        is_enabled = supports_mixed_precision and distributed.has_bf16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=is_enabled)


@dataclass(frozen=True)
class LayerDepths:
    """How far each parameter is from the input.

    Attributes:
        of_parameter: 0 for embeddings, 1 to `n_layers` for the layers of the encoder, and
            `n_layers` + 1 for what follows them.
        n_layers: The number of the encoder's layers; 0 if the network has no encoder.
    """

    of_parameter: dict[str, int]
    n_layers: int


def measure_depths(network: torch.nn.Module) -> LayerDepths:
    """Find the network's largest stack of layers, and how deep each parameter lies."""
    stack, n_layers = find_largest_stack(network)
    depths = {}
    depth = 0
    # Parameters come in the order in which modules were built, which is that of the computation.
    for name, _ in network.named_parameters():
        if n_layers and name.startswith(f"{stack}."):
            depth = 1 + int(name.removeprefix(f"{stack}.").split(".")[0])
        elif depth:
            depth = n_layers + 1
        depths[name] = depth
    return LayerDepths(depths, n_layers)


def find_largest_stack(network: torch.nn.Module) -> tuple[str, int]:
    """Return the name and length of the list of layers with the most parameters."""
    stacks = []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.ModuleList):
            size = sum(parameter.numel() for parameter in module.parameters())
            stacks.append((size, name, len(module)))
    _, name, length = max(stacks, default=(0, "", 0))
    return name, length


def freeze_parameters(network: torch.nn.Module, config: Train) -> None:
    """Exclude parameters from training: embeddings, the first layers too, or all but the head.

    Raises:
        ConfigError: The network has fewer layers than are to be frozen.
    """
    if config.freeze is None:
        return
    depths = measure_depths(network)
    n_frozen = config.freeze if isinstance(config.freeze, int) else 0
    if n_frozen > depths.n_layers:
        raise ConfigError(
            f"train.freeze: {n_frozen} layers are to be frozen, but the base has "
            f"{depths.n_layers}: write {depths.n_layers} or fewer, or all."
        )
    for name, parameter in network.named_parameters():
        if config.freeze == "all":
            parameter.requires_grad_(name.startswith("head."))
        else:
            parameter.requires_grad_(depths.of_parameter[name] > n_frozen)


def build_optimizer(network: torch.nn.Module, config: Train) -> torch.optim.Optimizer:
    """Build AdamW (Loshchilov and Hutter 2019) or SGD with momentum (Nesterov 1983)."""
    groups = group_parameters(network, config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=SGD_MOMENTUM, nesterov=True, fused=True
        )
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def group_parameters(network: torch.nn.Module, config: Train) -> list[dict[str, Any]]:
    """Group the parameters that learn by weight decay and learning rate.

    Vectors, such as biases, do not decay. A group's `scale` is its fraction of the learning rate:
    with layer-wise decay it is smaller for each layer nearer to the input (Howard and Ruder 2018).
    """
    depths = measure_depths(network)
    has_decay = depths.n_layers > 0 and config.layerwise_lr_decay < 1
    groups: dict[tuple[bool, int], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        is_vector = parameter.ndim <= 1
        layers_above = depths.n_layers + 1 - depths.of_parameter[name] if has_decay else 0
        groups.setdefault((is_vector, layers_above), []).append(parameter)
    return [
        {
            "params": groups[is_vector, layers_above],
            "weight_decay": 0.0 if is_vector else config.weight_decay,
            "scale": config.layerwise_lr_decay**layers_above,
        }
        for is_vector, layers_above in sorted(groups)
    ]


def compute_learning_rate(config: Train, step: int, n_steps: int, plateau_factor: float) -> float:
    """Return the learning rate of a step: a linear warm-up, then what the schedule says.

    Args:
        config: The section with rate, warm-up and schedule.
        step: The step, from 0.
        n_steps: The steps of the whole training.
        plateau_factor: What is left of the rate with the schedule `plateau`.
    """
    n_warmup = max(1, round(config.warmup * n_steps))
    if step < n_warmup:
        return config.learning_rate * (step + 1) / n_warmup
    remaining = (n_steps - step) / max(1, n_steps - n_warmup)  # from 1 to 0
    factors = {
        "linear": remaining,
        "cosine": (1 - math.cos(math.pi * remaining)) / 2,
        "plateau": plateau_factor,
        "constant": 1.0,
    }
    return config.learning_rate * factors[config.schedule]
