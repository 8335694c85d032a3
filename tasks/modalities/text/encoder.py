"""What training and pre-training of an encoder share: its base, its tokens and its batches."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from tasks.modalities import batching, pretrained, tokenizer_config
from tasks.modalities.base import Trainer
from tasks.modalities.batching import TokenIds
from tasks.modalities.pretrained import LoadedBase
from tasks.problems.batch import Batch
from tasks.recipe.train import Train

if TYPE_CHECKING:
    import torch

# Batches whose rows are sorted by length together: less padding, and the order is still random.
POOL_BATCHES = 64


@dataclass(frozen=True)
class TextBatch(Batch):
    """Padded texts."""

    token_ids: "torch.Tensor"  # [rows, longest]
    attention_mask: "torch.Tensor"  # [rows, longest], 1 for tokens, 0 for padding


class EncoderTrainer(Trainer):
    """A trainer with an encoder and no head yet."""

    SUPPORTS_MIXED_PRECISION = True
    HAS_DIFFERENTIABLE_INPUTS = True
    UNIT = "tokens"

    def __init__(self, config: Train, base: LoadedBase) -> None:
        import torch

        encoder = base.model
        if config.activation_checkpointing:
            pretrained.enable_activation_checkpointing(encoder, config)
        if getattr(encoder, "pooler", None) is not None:
            # The head has its own pooling; an unused layer would be saved and never trained.
            encoder.pooler = None
        self.config = config
        self.encoder = encoder
        self.pooling = base.pooling
        self.max_length = pretrained.resolve_max_length(config, encoder.config, base.tokenizer)
        is_short = self.max_length <= pretrained.MAX_EAGER_TOKENS
        is_eager = is_short and not torch.cuda.is_available()
        encoder.set_attn_implementation("eager" if is_eager else "sdpa")
        self.pad_id: int = base.tokenizer.pad_token_id or 0
        self.special_tokens = tokenizer_config.special_tokens(base.tokenizer)
        self.tokenizer = Tokenizer.from_str(base.tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)

    def encode(self, rows: Sequence[str]) -> list[TokenIds]:
        """Return the token ids of each text."""
        return list(batching.tokenize(self.tokenizer, rows))

    def count_units(self, example: TokenIds) -> int:
        """Count the tokens of a text."""
        return len(example)

    def batches(self, examples: list[TokenIds], epoch: int | None) -> list[list[int]]:
        """Return the row numbers of each batch, texts of about equal length together."""
        order = list(range(len(examples)))
        if epoch is None:
            return self.pack_by_length(order, examples)
        rng = random.Random(f"{self.config.seed}-{epoch}")  # noqa: S311  not for secrets
        rng.shuffle(order)
        pool_size = POOL_BATCHES * self.config.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), pool_size):
            batches += self.pack_by_length(order[start : start + pool_size], examples)
        rng.shuffle(batches)
        return batches

    def pack_by_length(self, indices: list[int], examples: list[TokenIds]) -> list[list[int]]:
        """Sort these texts by length and put neighbours into batches."""
        by_length = batching.sort_by_length(indices, examples)
        return batching.pack_batches(by_length, examples, self.config)

    def collate(
        self,
        examples: list[TokenIds],
        generator: "torch.Generator | None",
    ) -> Batch:
        """Pad the texts; nothing is augmented."""
        return self.pad(examples)

    def pad(self, examples: list[TokenIds]) -> TextBatch:
        """Pad the texts to the longest one."""
        import torch

        token_ids, mask = batching.pad_batch(examples, self.pad_id)
        return TextBatch(torch.from_numpy(token_ids), torch.from_numpy(mask))
