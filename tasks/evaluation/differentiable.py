"""The trained network with inputs that have gradients.

The inputs are an image's pixels, a table's features, or the embeddings of a text's tokens. The
weights are those of model.safetensors, in 32 bits; the model exported from them may have fewer.
"""

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup, escape
from torch.nn.functional import normalize

from tasks.contracts.model_info import Column
from tasks.modalities import tabular
from tasks.modalities.base import Trainer
from tasks.statistics.array_types import Floats

MIN_SAMPLE_ROWS = 20
MAX_SAMPLE_ROWS = 200
DEEPEST_COLOUR = 0.7  # opacity behind the token that counts most


class SampleSize(NamedTuple):
    """How many rows a sample may have: as many as together have `max_numbers` inputs."""

    max_numbers: int
    min_rows: int = MIN_SAMPLE_ROWS
    max_rows: int = MAX_SAMPLE_ROWS


class DifferentiableBatch(NamedTuple):
    """A batch of rows.

    Attributes:
        rows: The rows' positions.
        inputs: The inputs as numbers, shape [rows, …].
        rest: What else the network takes, if the inputs stand in for its embeddings.
    """

    rows: list[int]
    inputs: torch.Tensor
    rest: tuple[torch.Tensor, ...]

    def take(self, positions: torch.Tensor) -> "DifferentiableBatch":
        """Return the rows at these positions of the batch."""
        return DifferentiableBatch(
            [self.rows[position] for position in positions.tolist()],
            self.inputs[positions],
            tuple(part[positions] for part in self.rest),
        )


class FeatureSpan(NamedTuple):
    """A column of a table, and the features that it becomes; a number is the first of its own."""

    column: Column
    span: slice


class DifferentiableModel:
    """A network whose inputs can be changed by gradients."""

    def __init__(self, trainer: Trainer) -> None:
        """Freeze the weights of a trained network; it stays in the mode that it is in."""
        self.trainer: Any = trainer
        self.network: Any = trainer.network.requires_grad_(False)  # noqa: FBT003
        is_text = hasattr(self.network, "encoder")
        self.embeddings = self.network.encoder.get_input_embeddings() if is_text else None
        self.columns = locate_features(getattr(trainer, "columns", []))

    def sample_rows(self, rows: Sequence[Any], size: SampleSize, seed: int) -> list[int]:
        """Return the positions of some random rows, in order, limited by what they cost.

        Args:
            rows: The model's inputs.
            size: How many numbers their encoded inputs may have together.
            seed: The seed of the random choice.
        """
        generator = random.Random(seed)  # noqa: S311
        order = generator.sample(range(len(rows)), min(size.max_rows, len(rows)))
        width = self.embeddings.weight.shape[1] if self.embeddings else 1
        encoded = self.trainer.encode([rows[row] for row in order])
        numbers = np.cumsum([np.prod(np.shape(example)) * width for example in encoded])
        n_affordable = int((numbers <= size.max_numbers).sum())
        return sorted(order[: max(size.min_rows, n_affordable)])

    def batches(self, rows: Sequence[Any]) -> Iterator[DifferentiableBatch]:
        """Yield the rows in batches of similar length."""
        encoded = self.trainer.encode(rows) if rows else []
        for positions in self.trainer.batches(encoded, None):
            inputs = self.trainer.collate([encoded[row] for row in positions], None).inputs
            if self.embeddings:
                yield DifferentiableBatch(positions, self.embeddings(inputs[0]), inputs)
            else:
                yield DifferentiableBatch(positions, inputs[0], ())

    def outputs(self, inputs: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs before they become probabilities, shape [rows, width]."""
        with self.embeddings_replaced_by(inputs):
            outputs: torch.Tensor = self.network(*(rest or (inputs,)))
        return outputs

    @contextlib.contextmanager
    def embeddings_replaced_by(self, inputs: torch.Tensor) -> Iterator[None]:
        """Have the embedding layer return these inputs, if the network has one."""
        if self.embeddings is None:
            yield
            return
        with self.embeddings.register_forward_hook(lambda *_: inputs):
            yield

    def features(self, rows: Sequence[Any]) -> Floats:
        """Return what the last linear layer is given, normalized to length 1, [rows, width]."""
        linear_layers = [
            layer for layer in self.network.modules() if isinstance(layer, torch.nn.Linear)
        ]
        vectors: dict[int, Floats] = {}
        for batch in self.batches(rows):
            features: list[torch.Tensor] = []
            with linear_layers[-1].register_forward_pre_hook(
                lambda _, arguments, features=features: features.append(arguments[0])
            ):
                self.outputs(batch.inputs, *batch.rest)
            vectors.update(zip(batch.rows, normalize(features[0]).numpy(), strict=True))
        return np.stack([vectors[row] for row in range(len(rows))])

    def render_tokens(self, text: str, values: Sequence[float]) -> Markup:
        """Return a text with each token on a colour that says how much it counts.

        Args:
            text: The text.
            values: A number for each token: above 0 counts for the answer, below 0 against it.
        """
        largest = max((abs(value) for value in values), default=0.0) or 1.0
        offsets = self.trainer.tokenizer.encode(text).offsets
        parts = [Markup()]
        end = 0
        for (start, stop), value in zip(offsets, values, strict=False):
            if stop <= end:  # a letter made of several tokens takes the colour of the first
                continue
            colour = "fill" if value > 0 else "cut"
            opacity = DEEPEST_COLOUR * abs(value) / largest
            parts.append(escape(text[end:start]))
            parts.append(
                Markup('<span style="background: rgba(var(--{}), {:.2f})">{}</span>').format(
                    colour, opacity, text[max(start, end) : stop]
                )
            )
            end = stop
        return Markup().join(parts)


def locate_features(columns: Sequence[Column]) -> list[FeatureSpan]:
    """Return each column of a table with the features that it becomes."""
    spans = []
    start = 0
    for column in columns:
        width = tabular.encode_features([column], [{}]).shape[1]
        spans.append(FeatureSpan(column, slice(start, start + width)))
        start += width
    return spans
