"""Batching."""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.recipe.train import Train as Train  # noqa: F401

if TYPE_CHECKING:
    from tasks.recipe.train import Train


def split_into_batches(count: int, epoch: int | None, section: "Train") -> list[list[int]]:
    """Indices of examples of one size in batches, shuffled as a pure function of (seed, epoch); in reading order where epoch is None."""
    order = list(range(count))
    if epoch is not None:
        random.Random(f"{section.seed}-{epoch}").shuffle(order)  # noqa: S311  not for secrets
    return [
        order[start : start + section.batch_size] for start in range(0, count, section.batch_size)
    ]


TOKENIZER_CHUNK = (
    1024  # texts that are in the tokenizer at once, which keeps far more of each than its tokens
)
TokenIds = NDArray[np.int32]


def tokenize(tokenizer: Tokenizer, rows: Sequence[str], special: bool = True) -> Iterator[TokenIds]:
    """The ids of each text's tokens, with `special` those that begin and end it among them."""
    for start in range(0, len(rows), TOKENIZER_CHUNK):
        for encoding in tokenizer.encode_batch_fast(
            list(rows[start : start + TOKENIZER_CHUNK]), add_special_tokens=special
        ):
            yield np.array(encoding.ids, np.int32)


def pack_batches(
    order: list[int], examples: Sequence[Sequence[int] | TokenIds], section: Train
) -> list[list[int]]:
    """Consecutive indices in batches of at most batch_size rows and batch_tokens tokens, padding counted; a longer row stands alone."""
    made: list[list[int]] = [[]]
    widest = 0
    for index in order:
        widest = max(widest, len(examples[index]))
        if made[-1] and (
            len(made[-1]) == section.batch_size
            or widest * (len(made[-1]) + 1) > section.batch_tokens
        ):
            made.append([])
            widest = len(examples[index])
        made[-1].append(index)
    return [batch for batch in made if batch]


def pad_batch(
    examples: Sequence[Sequence[int] | TokenIds], pad: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask, each of shape (rows, longest row)."""
    lengths = np.array([len(example) for example in examples])
    mask = np.arange(max(2, lengths.max())) < lengths[:, None]
    ids = np.full(mask.shape, pad, np.int64)
    ids[mask] = np.concatenate(examples)
    return ids, mask.astype(np.int64)
