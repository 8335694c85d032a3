"""The exponential moving average of a network's weights (Polyak 1990)."""

from functools import partial

import torch
from torch.optim.swa_utils import AveragedModel


def build_moving_average(network: torch.nn.Module, decay: float) -> AveragedModel | None:
    """Build the average of a network's weights and buffers; None if `decay` is 0."""
    if not decay:
        return None
    update = partial(ema_update, decay)
    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


@torch.no_grad()
def ema_update(
    decay: float, averages: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor
) -> None:
    """Move averages towards the current weights.

    In the first steps they keep less of themselves than `decay`, because a short training would
    keep its start otherwise (Kingma and Ba 2015).
    """
    kept = min(decay, float((1 + steps) / (10 + steps)))
    for average, weights in zip(averages, current, strict=True):
        if average.is_floating_point():
            average.lerp_(weights, 1 - kept)
        else:
            average.copy_(weights)  # numbers of tokens, counts of batches
