"""The tensors of one batch: what goes into the network, and what its loss needs beside that."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """A batch of examples. Every field is a tensor."""

    def to(self, device: "torch.device | str") -> Self:
        """Return the batch with its tensors on the device."""
        tensors = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return type(self)(*(tensor.to(device) for tensor in tensors))

    @property
    def inputs(self) -> tuple["torch.Tensor", ...]:
        """The arguments of the network's `forward`: all fields, unless a batch says otherwise."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))


@dataclass(frozen=True)
class CausalBatch(Batch):
    """Packed rows of tokens: windows of several texts stand side by side in one row."""

    tokens: "torch.Tensor"  # [rows, length]
    positions: "torch.Tensor"  # [rows, length], from 0 in each window
    windows: "torch.Tensor"  # [rows, length], the number of a token's window, -1 for padding
    targets: "torch.Tensor"  # [rows, length], the next token, or IGNORED_TARGET
    example_of_window: "torch.Tensor"  # [windows]
    text_bytes: "torch.Tensor"  # [examples], the size of each example's text in UTF-8

    @property
    def inputs(self) -> tuple["torch.Tensor", ...]:
        """Tokens, positions and windows."""
        return self.tokens, self.positions, self.windows
