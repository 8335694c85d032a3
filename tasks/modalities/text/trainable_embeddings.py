"""Embeddings of which only those that training meets are trained. A batch holds a few hundred of a vocabulary's tokens, yet every row of the table would get
gradients, moments and an update in every step: an eighth of a step with 30,000 tokens, most of it with 250,000."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding


class TrainableEmbeddingSubset(torch.nn.Module):
    """Stands for a table of embeddings, and is saved and loaded as one. The tokens that training does not meet stay as they are, and are there for others."""

    numbers: torch.Tensor
    place: torch.Tensor

    def __init__(self, table: torch.Tensor, met: NDArray[np.int64]) -> None:
        """`met` are the numbers of the tokens that are trained, sorted."""
        super().__init__()
        self.register_buffer("numbers", torch.from_numpy(met), persistent=False)
        self.register_buffer("place", torch.full((len(table),), -1), persistent=False)
        self.place[self.numbers] = torch.arange(len(self.numbers))
        self.weight = torch.nn.Parameter(table[self.numbers])
        self.rest = torch.nn.Parameter(table, requires_grad=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        at = self.place[tokens]
        found = embedding(at.clamp(min=0), self.weight)
        return (
            found
            if self.training
            else torch.where((at < 0).unsqueeze(-1), embedding(tokens, self.rest), found)
        )

    def table(self) -> torch.Tensor:
        return self.rest.detach().index_copy(0, self.numbers, self.weight.detach())

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.table()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any) -> None:
        with torch.no_grad():
            self.rest.copy_(state_dict[f"{prefix}weight"])
            self.weight.copy_(self.rest[self.numbers])
