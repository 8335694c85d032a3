"""Predictions of a network while it is trained, computed by all processes together."""

import math

import torch

from tasks.modalities.base import Example, Trainer
from tasks.statistics.array_types import Floats
from tasks.training import distributed


@torch.no_grad()
def predict_examples(
    network: torch.nn.Module,
    adapter: Trainer,
    examples: list[Example],
    device: torch.device,
    autocast: torch.autocast,
) -> Floats:
    """Return the network's predictions, `[examples, width]`.

    Every process computes as many batches as the others, because a sharded network needs all of
    them at each layer. A process without a batch of its own computes one that does not count.
    """
    batches = adapter.batches(examples, None)
    own_batches = distributed.slice_for_rank(batches)
    result: torch.Tensor | None = None  # [examples, width]
    for number in range(math.ceil(len(batches) / distributed.world_size())):
        is_own = number < len(own_batches)
        rows = own_batches[number] if is_own else batches[0]
        batch = adapter.collate([examples[index] for index in rows], None).to(device)
        with autocast:
            outputs = network(*batch.inputs)
            predictions = adapter.problem.predict_batch(outputs, batch).double()
        if result is None:
            result = predictions.new_zeros(len(examples), predictions.shape[1])
        result[rows] += predictions * float(is_own)
    if result is None:
        result = torch.zeros(0)
    whole: Floats = distributed.sum_over_ranks(result).cpu().numpy()
    return whole
