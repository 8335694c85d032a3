"""Masked language modelling (Devlin et al. 2019): pre-training of an encoder.

It continues a base (domain-adaptive pre-training, Gururangan et al. 2020) or starts a new network
with its own tokenizer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.modalities import pretrained
from tasks.modalities.base import BaseSize, Pretrainer
from tasks.modalities.batching import TokenIds
from tasks.modalities.pretrained import PretrainedModel
from tasks.modalities.text import new_encoder
from tasks.modalities.text.encoder import EncoderTrainer
from tasks.problems.base import Problem
from tasks.problems.batch import Batch
from tasks.recipe.pretrain import Pretrain
from tasks.statistics.array_types import Floats
from tasks.storage import files

if TYPE_CHECKING:
    import torch

# Of these tokens, which are to be guessed, 80 % are hidden, 10 % become another token, and 10 %
# stay as they are.
MASKED_FRACTION = 0.15
HIDDEN_BELOW = 0.8
REPLACED_BELOW = 0.9
MAX_LOG_PERPLEXITY = 700.0  # a larger one overflows


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """Padded texts with some tokens hidden."""

    token_ids: "torch.Tensor"  # [rows, longest], some of them hidden or replaced
    attention_mask: "torch.Tensor"  # [rows, longest]
    positions: "torch.Tensor"  # [guesses], of the tokens to guess, in the flattened batch
    targets: "torch.Tensor"  # [guesses], the tokens to guess

    @property
    def inputs(self) -> tuple["torch.Tensor", ...]:
        """All but the targets."""
        return self.token_ids, self.attention_mask, self.positions


class MaskedLmProblem(Problem):
    """Guess the hidden tokens. A score is a text's loss and the number of its hidden tokens."""

    NAME = "masked_lm"

    def loss(
        self,
        outputs: "torch.Tensor",
        batch: Batch,
        targets: "torch.Tensor",
    ) -> tuple["torch.Tensor", float]:
        """Return the sum of the cross-entropies and the number of guesses."""
        from torch.nn.functional import cross_entropy

        assert isinstance(batch, MaskedBatch)
        loss = cross_entropy(outputs.float(), batch.targets, reduction="sum")
        return loss, float(len(outputs))

    def predict_batch(
        self,
        outputs: "torch.Tensor",
        batch: Batch,
    ) -> "torch.Tensor":
        """Return each text's loss and number of guesses, `[rows, 2]`."""
        import torch
        from torch.nn.functional import cross_entropy

        assert isinstance(batch, MaskedBatch)
        losses = cross_entropy(outputs.float(), batch.targets, reduction="none")
        rows, length = batch.token_ids.shape
        row_of_guess = batch.positions // length
        scores = torch.stack([losses, torch.ones_like(losses)], dim=1)
        return losses.new_zeros(rows, 2).index_add(0, row_of_guess, scores)

    def measure(
        self,
        targets: NDArray[np.int64],
        answers: Floats,
    ) -> dict[str, float]:
        """Return the loss of a hidden token, and its perplexity."""
        loss = float(answers[:, 0].sum() / max(1.0, answers[:, 1].sum()))
        return {"log_loss": loss, "perplexity": math.exp(min(loss, MAX_LOG_PERPLEXITY))}


class MaskedLmPretrainer(EncoderTrainer, Pretrainer):
    """Trains an encoder to guess hidden tokens."""

    def __init__(self, config: Pretrain, rows: Sequence[str]) -> None:
        import torch

        if config.network:
            base = new_encoder.build_modernbert(
                config.network, rows, config.max_length, config.seed
            )
        else:
            base = pretrained.load_base(config)
        super().__init__(config, base)
        self.base_tokenizer = base.tokenizer
        self.problem = MaskedLmProblem([], config)
        self.special_ids = torch.tensor(sorted(base.tokenizer.all_special_ids))
        torch.manual_seed(config.seed)
        self.network = build_masked_lm(self.encoder)

    def collate(self, examples: list[TokenIds], generator: "torch.Generator | None") -> MaskedBatch:
        """Pad the texts and hide some tokens, without a generator always the same ones."""
        import torch

        batch = self.pad(examples)
        token_ids = batch.token_ids
        shape = token_ids.shape
        generator = generator or torch.Generator().manual_seed(self.config.seed)
        is_drawn = torch.rand(shape, generator=generator) < MASKED_FRACTION
        is_special = torch.isin(token_ids, self.special_ids)
        is_guessed = is_drawn & (batch.attention_mask == 1) & ~is_special
        draw = torch.rand(shape, generator=generator)
        random_ids = torch.randint(len(self.base_tokenizer), shape, generator=generator)
        kept_or_replaced = torch.where(draw < REPLACED_BELOW, random_ids, token_ids)
        mask_id = self.base_tokenizer.mask_token_id
        changed = torch.where(draw < HIDDEN_BELOW, mask_id, kept_or_replaced)
        return MaskedBatch(
            token_ids=torch.where(is_guessed, changed, token_ids),
            attention_mask=batch.attention_mask,
            positions=is_guessed.flatten().nonzero().squeeze(1),
            targets=token_ids[is_guessed],
        )

    def save_base(self, folder: Path) -> BaseSize:
        """Write the encoder and its tokenizer as transformers and sentence encoders have them.

        The head, which only guesses tokens, is left behind.
        """
        self.encoder.cpu().save_pretrained(folder)
        self.base_tokenizer.save_pretrained(folder)
        if self.pooling == "mean":
            pooling = {
                "pooling_mode_mean_tokens": True,
                "word_embedding_dimension": self.encoder.config.hidden_size,
            }
            files.write_json(folder / "1_Pooling" / "config.json", pooling)
        return BaseSize(self.encoder.num_parameters(), len(self.base_tokenizer))


def build_masked_lm(encoder: PretrainedModel) -> "torch.nn.Module":
    """Build the network: encoder and a head that guesses tokens.

    The weights of the embeddings are also those of the last layer (Press and Wolf 2017).
    """
    import torch

    embeddings = encoder.get_input_embeddings().weight

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            width = embeddings.shape[1]
            self.head = torch.nn.Sequential(
                torch.nn.Linear(encoder.config.hidden_size, width),
                torch.nn.GELU(),
                torch.nn.LayerNorm(width),
            )
            self.bias = torch.nn.Parameter(torch.zeros(len(embeddings)))

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, positions: torch.Tensor
        ) -> torch.Tensor:
            """Return the logits of the tokens to guess, `[guesses, vocabulary]`.

            Those of all tokens would take most of a small network's time.
            """
            output = encoder(input_ids=input_ids, attention_mask=attention_mask)
            hidden = output.last_hidden_state.flatten(0, 1)[positions]
            return torch.nn.functional.linear(self.head(hidden), embeddings, self.bias)

    return Masked()
