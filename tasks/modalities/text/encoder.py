"""Encoder."""

import random
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from tasks.modalities import batching, pretrained
from tasks.modalities.base import Trainer
from tasks.modalities.batching import TokenIds
from tasks.recipe.train import Train

POOL_BATCHES = (
    64  # batches whose rows are sorted by length together: less padding, order still random
)


class EncoderTrainer(Trainer):
    """What all that train an encoder share; it has no head yet."""

    mixed = True

    def __init__(self, section: Train, encoder: Any, tokenizer: Any, pooling: str) -> None:
        import torch

        if section.activation_checkpointing:
            pretrained.enable_activation_checkpointing(encoder, section)
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # the head has its own pooling; an unused layer would be saved and never trained
        self.section, self.encoder, self.pooling = section, encoder, pooling
        self.max_length = pretrained.resolve_max_length(section, encoder.config, tokenizer)
        # torch's fused attention on CPUs goes back slowly: written out it takes two thirds of the time, but memory that grows with the square of the length
        plain = not torch.cuda.is_available() and self.max_length <= pretrained.MAX_EAGER_TOKENS
        encoder.set_attn_implementation("eager" if plain else "sdpa")
        self.pad = tokenizer.pad_token_id or 0
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)

    def encode(self, rows: Sequence[str]) -> list[TokenIds]:
        return list(batching.tokenize(self.tokenizer, rows))

    def tokens(self, example: TokenIds) -> int:
        return len(example)

    def batches(self, examples: list[TokenIds], epoch: int | None) -> list[list[int]]:
        order = list(range(len(examples)))
        if epoch is None:
            return batching.pack_batches(
                sorted(order, key=lambda index: len(examples[index])), examples, self.section
            )
        shuffled = random.Random(f"{self.section.seed}-{epoch}")  # noqa: S311  not for secrets
        shuffled.shuffle(order)
        pool = POOL_BATCHES * self.section.batch_size
        made = []
        for start in range(0, len(order), pool):
            made += batching.pack_batches(
                sorted(order[start : start + pool], key=lambda index: len(examples[index])),
                examples,
                self.section,
            )
        shuffled.shuffle(made)
        return made

    def collate(self, examples: list[TokenIds], generator: Any) -> tuple[Any, ...]:
        import torch

        return tuple(torch.from_numpy(array) for array in batching.pad_batch(examples, self.pad))
