"""The trained network with inputs that gradients can be taken of: pixels, the features of a table, or the embeddings of a text's tokens.

Its weights are those of model.safetensors, in 32 bits; what is exported from them may have fewer.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray

from tasks.evaluation import examples
from tasks.modalities import Trainer, tabular


@dataclass(frozen=True)
class Batch:
    """Which rows are in it, their inputs as numbers, and what else `outputs` needs of them."""

    rows: list[int]
    inputs: torch.Tensor
    rest: tuple[torch.Tensor, ...]

    def of(self, kept: torch.Tensor) -> "Batch":
        """Only these of its rows."""
        return Batch([self.rows[at] for at in kept.tolist()], self.inputs[kept], tuple(part[kept] for part in self.rest))


@dataclass(frozen=True)
class Inside:
    adapter: Trainer

    def __post_init__(self) -> None:
        self.adapter.network.requires_grad_(False)  # of its weights no gradients are wanted

    @property
    def embeddings(self) -> Any:
        """The layer that makes tokens to vectors, if there is one."""
        encoder: Any = getattr(self.adapter.network, "encoder", None)
        return encoder and encoder.get_input_embeddings()

    def drawn(self, rows: Sequence[Any], numbers: int, seed: int, least: int = 20, most: int = 200) -> list[int]:
        """Some rows at random, as many as together have so many numbers for inputs, since that is what they cost."""
        order = random.Random(seed).sample(range(len(rows)), min(most, len(rows)))  # noqa: S311  not for secrets
        width = 1 if self.embeddings is None else self.embeddings.weight.shape[1]
        sizes = np.cumsum([np.prod(np.shape(example)) * width for example in self.adapter.encode([rows[row] for row in order])])
        return sorted(order[: max(least, int((sizes <= numbers).sum()))])

    def batches(self, rows: Sequence[Any]) -> Iterator[Batch]:
        encoded = self.adapter.encode(rows)
        for at in self.adapter.batches(encoded, None):
            inputs = self.adapter.collate([encoded[row] for row in at], None)
            yield Batch(at, inputs[0], ()) if self.embeddings is None else Batch(at, self.embeddings(inputs[0]), inputs)

    def outputs(self, inputs: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """What the network gives for each row, before it becomes probabilities, of shape (rows, width)."""
        hook = self.embeddings.register_forward_hook(lambda *_: inputs) if rest else None
        try:
            result: torch.Tensor = self.adapter.network(*(rest or (inputs,)))
            return result
        finally:
            if hook:
                hook.remove()

    def features(self, rows: Sequence[Any]) -> NDArray[np.float32]:
        """What the head is given for each row, as vectors of length 1, of shape (rows, width)."""
        head = [layer for layer in self.adapter.network.modules() if isinstance(layer, torch.nn.Linear)][-1]
        found = np.zeros((len(rows), head.in_features), np.float32)
        taken: list[torch.Tensor] = []
        hook = head.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        for batch in self.batches(rows):
            self.outputs(batch.inputs, *batch.rest)
            found[batch.rows] = torch.nn.functional.normalize(taken.pop(), dim=1).numpy()
        hook.remove()
        return found

    def columns(self) -> list[tuple[tabular.Column, slice]]:
        """The columns of a table with the features that each has; a number itself is the first of its own."""
        columns: list[tabular.Column] = getattr(self.adapter, "columns", [])
        ends = np.cumsum([0, *(tabular.encoded([column], [{}]).shape[1] for column in columns)]).tolist()
        return [(column, slice(*ends[at : at + 2])) for at, column in enumerate(columns)]

    def tokens(self, row: str, values: Sequence[float]) -> Markup:
        """The text, each token coloured by its value."""
        encoding, parts, end = self.adapter.tokenizer.encode(row), list[tuple[str, float]](), 0  # type: ignore[attr-defined]
        for (start, stop), value in zip(encoding.offsets, values, strict=False):
            parts += [(row[end:start], 0.0), (row[start:stop], value)] if stop > start else []
            end = max(end, stop)
        return examples.coloured(parts)
