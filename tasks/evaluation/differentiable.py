"""The trained network with inputs that gradients can be taken of: pixels, the features of a table, or the embeddings of a text's tokens; and how rows are shown.

Its weights are those of model.safetensors, in 32 bits; what is exported from them may have fewer.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup, escape
from torch.nn.functional import normalize

from tasks.modalities import tabular
from tasks.statistics.array_types import Floats


class DifferentiableBatch(NamedTuple):
    """Which rows are in it, their inputs as numbers, and what else `outputs` needs of them."""

    rows: list[int]
    inputs: torch.Tensor
    rest: tuple[torch.Tensor, ...]

    def of(self, kept: torch.Tensor) -> "DifferentiableBatch":
        return DifferentiableBatch(
            [self.rows[at] for at in kept.tolist()],
            self.inputs[kept],
            tuple(part[kept] for part in self.rest),
        )


class DifferentiableModel:
    def __init__(self, adapter: Any) -> None:
        self.adapter, self.network = adapter, adapter.network.requires_grad_(False)
        self.embeddings = (
            self.network.encoder.get_input_embeddings()
            if hasattr(self.network, "encoder")
            else None
        )
        columns = getattr(adapter, "columns", [])
        ends = np.cumsum(
            [0, *(tabular.encode_features([column], [{}]).shape[1] for column in columns)]
        ).tolist()
        self.columns = [
            (column, slice(*ends[at : at + 2])) for at, column in enumerate(columns)
        ]  # with the features of each; a number is the first of its own

    def drawn(
        self, rows: Sequence[Any], numbers: int, seed: int, least: int = 20, most: int = 200
    ) -> list[int]:
        """Some rows at random, as many as together have so many numbers for inputs, since that is what they cost."""
        order = random.Random(seed).sample(range(len(rows)), min(most, len(rows)))  # noqa: S311  not for secrets
        width = self.embeddings.weight.shape[1] if self.embeddings else 1
        sizes = np.cumsum(
            [
                np.prod(np.shape(example)) * width
                for example in self.adapter.encode([rows[row] for row in order])
            ]
        )
        return sorted(order[: max(least, int((sizes <= numbers).sum()))])

    def batches(self, rows: Sequence[Any]) -> Iterator[DifferentiableBatch]:
        encoded = self.adapter.encode(rows) if rows else []
        for at in self.adapter.batches(encoded, None):
            inputs = self.adapter.collate([encoded[row] for row in at], None).inputs
            yield (
                DifferentiableBatch(at, self.embeddings(inputs[0]), inputs)
                if self.embeddings
                else DifferentiableBatch(at, inputs[0], ())
            )

    def outputs(self, inputs: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """What the network gives for each row, before it becomes probabilities, of shape (rows, width)."""
        with (
            self.embeddings.register_forward_hook(lambda *_: inputs)
            if self.embeddings
            else nullcontext()
        ):
            result: torch.Tensor = self.network(*(rest or (inputs,)))
        return result

    def features(self, rows: Sequence[Any]) -> Floats:
        """What the head is given for each row, as vectors of length 1, of shape (rows, width)."""
        head, taken = (
            [layer for layer in self.network.modules() if isinstance(layer, torch.nn.Linear)][-1],
            dict[int, Floats](),
        )
        for batch in self.batches(rows):
            with head.register_forward_pre_hook(
                lambda _, given, at=batch.rows: taken.update(
                    zip(at, normalize(given[0]).numpy(), strict=True)
                )
            ):
                self.outputs(batch.inputs, *batch.rest)
        return np.stack([taken[row] for row in range(len(rows))])

    def tokens(self, row: str, values: Sequence[float]) -> Markup:
        """The text, each token on a ground that says how much it counts: for (above 0) or against, the deepest for the largest."""
        most, parts, end = max(map(abs, values), default=0.0) or 1.0, [Markup()], 0
        for (start, stop), value in zip(
            self.adapter.tokenizer.encode(row).offsets, values, strict=False
        ):
            if stop > end:  # of a letter made of several tokens the first one counts
                ground = Markup('<span style="background: rgba(var(--{}), {:.2f})">').format(
                    "fill" if value > 0 else "cut", 0.7 * abs(value) / most
                )
                parts += [
                    escape(row[end:start]),
                    ground,
                    escape(row[max(start, end) : stop]),
                    Markup("</span>"),
                ]
                end = stop
        return Markup().join(parts)
