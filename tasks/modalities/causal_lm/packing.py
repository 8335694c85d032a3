"""Texts as tokens, cut into windows and packed into rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer, processors

from tasks.core.errors import StageError
from tasks.modalities import batching
from tasks.modalities.batching import TokenIds
from tasks.problems.language import IGNORED_TARGET, TokenizedText

PromptedText = dict[str, str]  # `prompt`, and `text`, which follows it


@dataclass(frozen=True)
class Boundaries:
    """The tokens before and after each text."""

    bos_id: int
    eos_id: int


@dataclass(frozen=True)
class Window:
    """What the network sees of an example at once."""

    example: int
    tokens: TokenIds  # [length]
    targets: TokenIds  # [length], the next token, or IGNORED_TARGET

    def __len__(self) -> int:
        """Count the tokens."""
        return len(self.tokens)


def encode_texts(
    tokenizer: Tokenizer, boundaries: Boundaries, rows: Sequence[PromptedText]
) -> list[TokenizedText]:
    """Tokenize prompts and texts.

    Raises:
        StageError: A row has no text.
    """
    require_texts(rows)
    prompts = batching.tokenize(
        tokenizer, [row["prompt"] for row in rows], add_special_tokens=False
    )
    texts = batching.tokenize(tokenizer, [row["text"] for row in rows], add_special_tokens=False)
    bos = np.array([boundaries.bos_id], np.int32)
    eos = np.array([boundaries.eos_id], np.int32)
    examples = []
    for prompt, text, row in zip(prompts, texts, rows, strict=True):
        tokens = np.concatenate([bos, prompt, text, eos])
        examples.append(TokenizedText(tokens, 1 + len(prompt), len(row["text"].encode())))
    return examples


def begin_with_token(tokenizer: Tokenizer, bos_id: int) -> None:
    """Have the tokenizer put the token that begins a text before it, as `encode_texts` does.

    Millrace adds that token itself. Other programs leave it to the tokenizer.
    """
    if tokenizer.encode("").ids == [bos_id]:
        return
    token = tokenizer.id_to_token(bos_id)
    template: processors.PostProcessor = processors.TemplateProcessing(
        single=[token, "$A"], pair=[token, "$A", "$B"], special_tokens=[(token, bos_id)]
    )
    adds_nothing = not tokenizer.encode("").ids
    if tokenizer.post_processor is not None and adds_nothing:
        template = processors.Sequence([tokenizer.post_processor, template])
    tokenizer.post_processor = template


def require_texts(rows: Sequence[PromptedText]) -> None:
    """Raise StageError if a row has no text."""
    empty = [number for number, row in enumerate(rows, 1) if not (row["text"] or "").strip()]
    if empty:
        raise StageError(
            f"row number {empty[0]} has no text to learn ({len(empty)} of {len(rows)} have none): "
            "add the rule length to clean.rules."
        )


def iterate_windows(
    examples: Sequence[TokenizedText], length: int, overlap: int
) -> Iterator[Window]:
    """Yield the windows of all examples."""
    for number, example in enumerate(examples):
        yield from cut_windows(example, length, overlap, number)


def cut_windows(
    example: TokenizedText, length: int, overlap: int = 0, number: int = 0
) -> Iterator[Window]:
    """Yield windows of at most `length` tokens that predict each token of the text once.

    A window sees the last `overlap` tokens of what came before it again.
    """
    tokens = example.tokens
    last_start = max(1, len(tokens) - 1 - overlap)
    for start in range(0, last_start, length - overlap):
        # The first token that no earlier window predicts and that is not of the prompt.
        first_target = max(example.text_start, start + overlap + 1 if start else 0)
        targets = tokens[start + 1 : start + 1 + length].copy()
        targets[: max(0, first_target - start - 1)] = IGNORED_TARGET
        if targets[-1] != IGNORED_TARGET:
            yield Window(number, tokens[start : start + len(targets)], targets)


def pack_windows(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Return which windows share a row of `length` tokens.

    The longest comes first, each into the fullest row that has space for it.
    """
    rows: list[list[int]] = []
    space: list[int] = []  # left in each row
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        candidates = [row for row, left in enumerate(space) if left >= sizes[index]]
        row = min(candidates, key=space.__getitem__, default=len(rows))
        if row == len(rows):
            rows.append([])
            space.append(length)
        rows[row].append(index)
        space[row] -= sizes[index]
    return rows
