"""Tokens of texts, and how examples of different lengths are put into batches."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.storage import files

if TYPE_CHECKING:
    from tasks.recipe.train import Train

# Texts that are in the tokenizer at once, which keeps far more of each than its tokens.
TOKENIZER_CHUNK = 1024
MIN_PADDED_LENGTH = 2  # tokens; the exported networks take no fewer
TokenIds = NDArray[np.int32]


def split_into_batches(count: int, epoch: int | None, config: "Train") -> list[list[int]]:
    """Split examples of equal size into batches of row numbers.

    The order depends on the seed and the epoch alone; without an epoch it is that of the rows.
    """
    order = list(range(count))
    if epoch is not None:
        random.Random(f"{config.seed}-{epoch}").shuffle(order)  # noqa: S311  not for secrets
    size = config.batch_size
    return [order[start : start + size] for start in range(0, count, size)]


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str], *, add_special_tokens: bool = True
) -> Iterator[TokenIds]:
    """Yield the token ids of each text."""
    for start in range(0, len(texts), TOKENIZER_CHUNK):
        chunk = list(texts[start : start + TOKENIZER_CHUNK])
        for encoding in tokenizer.encode_batch_fast(chunk, add_special_tokens=add_special_tokens):
            yield np.array(encoding.ids, np.int32)


def pack_batches(
    order: Sequence[int], examples: Sequence[Sequence[int] | TokenIds], config: "Train"
) -> list[list[int]]:
    """Put consecutive examples into batches of at most batch_size rows and batch_tokens tokens.

    Padding counts as tokens. A row that is longer than batch_tokens is a batch by itself.
    """
    batches: list[list[int]] = []
    longest = 0
    for index in order:
        length = len(examples[index])
        longest = max(longest, length)
        if not batches or not has_space(len(batches[-1]), longest, config):
            batches.append([])
            longest = length
        batches[-1].append(index)
    return batches


def has_space(rows: int, longest: int, config: "Train") -> bool:
    """Tell whether a row fits into a batch of `rows` rows, padded to `longest` tokens each."""
    return rows < config.batch_size and longest * (rows + 1) <= config.batch_tokens


def sort_by_length(
    indices: Sequence[int], examples: Sequence[Sequence[int] | TokenIds]
) -> list[int]:
    """Return the row numbers with the shortest example first."""
    return sorted(indices, key=lambda index: len(examples[index]))


def pad_batch(
    examples: Sequence[Sequence[int] | TokenIds], pad_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return token ids and attention mask, each `[rows, longest row]`."""
    lengths = np.array([len(example) for example in examples])
    mask = np.arange(max(MIN_PADDED_LENGTH, lengths.max())) < lengths[:, None]
    ids = np.full(mask.shape, pad_id, np.int64)
    ids[mask] = np.concatenate(examples)
    return ids, mask.astype(np.int64)


def serialize_tokenizer(tokenizer: Tokenizer) -> str:
    """Return the text of tokenizer.json, with sorted keys."""
    return json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, sort_keys=True)


def write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write tokenizer.json."""
    files.write_text(path, serialize_tokenizer(tokenizer))
