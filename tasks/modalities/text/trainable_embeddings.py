"""Embeddings of which only the tokens in the training rows are trained.

A batch holds a few hundred of a vocabulary's tokens. Yet every row of the table would get
gradients, moments and an update in every step: an eighth of a step with 30,000 tokens, most of it
with 250,000.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding


class TrainableEmbeddingSubset(torch.nn.Module):
    """A table of embeddings; it is saved and loaded as the whole table.

    Tokens that are not in the training rows stay as they are. In training they would be looked up
    wrongly, so other texts may only be read in evaluation mode.
    """

    token_ids: torch.Tensor  # [trained tokens]
    index_of_token: torch.Tensor  # [vocabulary], -1 for a token that is not trained

    def __init__(self, table: torch.Tensor, used_ids: NDArray[np.int64]) -> None:
        """Train the tokens `used_ids`, sorted, of a table `[vocabulary, hidden size]`."""
        super().__init__()
        self.register_buffer("token_ids", torch.from_numpy(used_ids), persistent=False)
        self.register_buffer("index_of_token", torch.full((len(table),), -1), persistent=False)
        self.index_of_token[self.token_ids] = torch.arange(len(self.token_ids))
        self.weight = torch.nn.Parameter(table[self.token_ids])
        self.frozen_table = torch.nn.Parameter(table, requires_grad=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Look up the embeddings of tokens, `[rows, length, hidden size]`."""
        index = self.index_of_token[tokens]
        trained = embedding(index.clamp(min=0), self.weight)
        if self.training:
            return trained
        is_frozen = (index < 0).unsqueeze(-1)
        return torch.where(is_frozen, embedding(tokens, self.frozen_table), trained)

    def table(self) -> torch.Tensor:
        """Return the whole table, `[vocabulary, hidden size]`."""
        return self.frozen_table.detach().index_copy(0, self.token_ids, self.weight.detach())

    def _save_to_state_dict(
        self,
        destination: Any,
        prefix: str,
        keep_vars: bool,  # noqa: FBT001  torch's signature
    ) -> None:
        destination[f"{prefix}weight"] = self.table()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *_: Any) -> None:
        with torch.no_grad():
            self.frozen_table.copy_(state_dict[f"{prefix}weight"])
            self.weight.copy_(self.frozen_table[self.token_ids])
