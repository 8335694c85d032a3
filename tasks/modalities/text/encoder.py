"""Encoder."""

import random
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from tasks.modalities import batching, pretrained
from tasks.modalities.base import Trainer
from tasks.modalities.batching import Tokens
from tasks.recipe.train import Train

POOL = 64  # batches whose rows are sorted by length together: less padding, order still random


class Encoder(Trainer):
    """What all that train an encoder share; it has no head yet."""

    mixed = True

    def __init__(self, section: Train, encoder: Any, tokenizer: Any, pooling: str) -> None:
        import torch

        if section.activation_checkpointing:
            pretrained.checkpointed(encoder, section)
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # the head has its own pooling; an unused layer would be saved and never trained
        self.section, self.encoder, self.pooling = section, encoder, pooling
        self.max_length = pretrained.longest(section, encoder.config, tokenizer)
        # torch's fused attention on CPUs goes back slowly: written out it takes two thirds of the time, but memory that grows with the square of the length
        plain = not torch.cuda.is_available() and self.max_length <= pretrained.EAGER
        encoder.set_attn_implementation("eager" if plain else "sdpa")
        self.pad = tokenizer.pad_token_id or 0
        self.tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)

    def encode(self, rows: Sequence[str]) -> list[Tokens]:
        return list(batching.tokens(self.tokenizer, rows))

    def tokens(self, example: Tokens) -> int:
        return len(example)

    def batches(self, examples: list[Tokens], epoch: int | None) -> list[list[int]]:
        order = list(range(len(examples)))
        if epoch is None:
            return batching.packed(
                sorted(order, key=lambda index: len(examples[index])), examples, self.section
            )
        shuffled = random.Random(f"{self.section.seed}-{epoch}")  # noqa: S311  not for secrets
        shuffled.shuffle(order)
        pool = POOL * self.section.batch_size
        made = []
        for start in range(0, len(order), pool):
            made += batching.packed(
                sorted(order[start : start + pool], key=lambda index: len(examples[index])),
                examples,
                self.section,
            )
        shuffled.shuffle(made)
        return made

    def collate(self, examples: list[Tokens], generator: Any) -> tuple[Any, ...]:
        import torch

        return tuple(torch.from_numpy(array) for array in batching.padded(examples, self.pad))
