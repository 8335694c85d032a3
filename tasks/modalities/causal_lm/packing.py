"""Packing."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from tasks.core.errors import StageError
from tasks.modalities import batching
from tasks.modalities.batching import TokenIds
from tasks.problems.language import IGNORED_TARGET

PromptedText = dict[str, str]  # its prompt and its text
TokenizedText = tuple[
    TokenIds, int, int
]  # a row's tokens, of which the first begins it, the place of the first that is to be predicted, and its text's bytes


def encode_texts(
    tokenizer: Tokenizer, ends: tuple[int, int], rows: Sequence[PromptedText]
) -> list[TokenizedText]:
    """Tokens of prompt and text, between the tokens that begin and end a text. Raises Failure for a row without a text."""
    empty = [number for number, row in enumerate(rows, 1) if not (row["text"] or "").strip()]
    if empty:
        raise StageError(
            f"row number {empty[0]} has no text to learn ({len(empty)} of {len(rows)} have none): add the rule length to clean.rules."
        )
    prompts, texts = (
        batching.tokenize(tokenizer, [row[part] for row in rows], special=False)
        for part in ("prompt", "text")
    )
    begin, end = np.array(ends, np.int32)[:, None]
    parts = zip(prompts, texts, rows, strict=True)
    return [
        (np.concatenate([begin, prompt, text, end]), 1 + len(prompt), len(row["text"].encode()))
        for prompt, text, row in parts
    ]


def iterate_windows(
    examples: Sequence[TokenizedText], length: int, overlap: int
) -> Iterator[tuple[int, TokenIds, TokenIds]]:
    """The windows of all examples, each after the number of its example."""
    yield from (
        (number, *window)
        for number, example in enumerate(examples)
        for window in cut_windows(example, length, overlap)
    )


def cut_windows(
    example: TokenizedText, length: int, overlap: int = 0
) -> list[tuple[TokenIds, TokenIds]]:
    """The tokens that a network sees, at most `length` at once, and what each is to predict; each token from the example's start on is predicted once.

    Of what came before, a window sees the last `overlap` tokens again.
    """
    ids, start, _ = example
    made = []
    for first in range(0, max(1, len(ids) - 1 - overlap), length - overlap):
        done = max(
            start, first + overlap + 1 if first else 0
        )  # what was predicted before, or is not to be
        targets = ids[first + 1 : first + 1 + length].copy()
        targets[: max(0, done - first - 1)] = IGNORED_TARGET
        if targets[-1] != IGNORED_TARGET:
            made.append((ids[first : first + len(targets)], targets))
    return made


def pack_windows(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Which texts share a row: the longest first, each into the fullest row that has space for it."""
    rows: list[list[int]] = []
    space: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        row = min(
            (row for row, left in enumerate(space) if left >= sizes[index]),
            key=lambda row: space[row],
            default=len(rows),
        )
        if row == len(rows):
            rows.append([])
            space.append(length)
        rows[row].append(index)
        space[row] -= sizes[index]
    return rows
