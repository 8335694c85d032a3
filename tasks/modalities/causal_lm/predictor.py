"""The exported causal language model: it scores texts, and continues prompts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.contracts.model_info import CausalLmInput, ModelInfo
from tasks.modalities import onnx
from tasks.modalities.base import Predictor
from tasks.modalities.causal_lm import packing
from tasks.modalities.causal_lm.packing import Boundaries, PromptedText, Window
from tasks.problems.language import (
    IGNORED_TARGET,
    PREDICTION_COLUMNS,
    LanguageProblem,
    RowTokenizer,
    TokenizedText,
)
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

BATCH_TOKENS = 4096
MAX_NEW_TOKENS = 200
MAX_SAMPLES = 10
CUT_MARK = "…"  # after a text that the model did not end

Cache = NDArray[np.float32]  # [layers, keys and values, rows, heads, tokens, head size]


class CausalLmPredictor(Predictor):
    """The exported decoder with its tokenizer."""

    def __init__(self, folder: Path, info: ModelInfo, threads: int) -> None:
        assert isinstance(info.input, CausalLmInput)
        paths = ModelFolder(folder)
        self.labels = info.labels
        self.max_length = info.input.max_length
        self.boundaries = Boundaries(info.input.bos_id, info.input.eos_id)
        self.kv_cache_shape = info.input.kv_cache_shape
        self.tokenizer = Tokenizer.from_file(str(paths.tokenizer))
        self.session = onnx.open_session(paths.onnx, threads)
        row_tokenizer = RowTokenizer(self.encode, self.tokenizer.get_vocab_size())
        self.problem = LanguageProblem(info.labels, tokenizer=row_tokenizer)

    def encode(self, rows: Sequence[PromptedText]) -> list[TokenizedText]:
        """Tokenize prompts and texts."""
        return packing.encode_texts(self.tokenizer, self.boundaries, rows)

    def __call__(self, rows: Sequence[PromptedText], batch_tokens: int = BATCH_TOKENS) -> Floats:
        """Return loss, tokens, hits and bytes of each row's text, `[rows, 4]`."""
        examples = self.encode(rows)
        windows = list(packing.iterate_windows(examples, self.max_length, self.max_length // 2))
        scores = np.zeros((len(rows), len(PREDICTION_COLUMNS)))
        scores[:, 3] = [example.text_bytes for example in examples]
        for batch in batch_by_length(windows, batch_tokens):
            example_of_token, token_scores = self.score_windows(batch)
            np.add.at(scores[:, :3], example_of_token, token_scores)
        return scores

    def score_windows(self, windows: list[Window]) -> tuple[NDArray[np.int64], Floats]:
        """Score each token that the windows predict.

        Returns the tokens' examples, `[tokens]`, and their loss, count (1) and whether they were
        the likeliest, `[tokens, 3]`.
        """
        ids, targets = pad_windows(windows, self.boundaries.eos_id)
        row, position = np.nonzero(targets != IGNORED_TARGET)
        target = targets[row, position]
        logits, _ = self.run_step(ids, self.empty_cache(len(windows)))
        token_logits = logits[row, position].astype(np.float64)  # [tokens, vocabulary]
        loss = cross_entropy(token_logits, target)
        is_likeliest = token_logits.argmax(1) == target
        example_of_row = np.array([window.example for window in windows])
        return example_of_row[row], np.stack([loss, np.ones(len(target)), is_likeliest], 1)

    def run_step(self, ids: NDArray[np.int64], past: Cache) -> tuple[NDArray[np.float32], Cache]:
        """Run the network on new tokens; returns their logits and the cache of all tokens."""
        logits, present = self.session.run(["logits", "present"], {"input_ids": ids, "past": past})
        return logits, present

    def empty_cache(self, rows: int) -> Cache:
        """Return the cache of no tokens."""
        layers, keys_and_values, heads, head_size = self.kv_cache_shape
        return np.zeros((layers, keys_and_values, rows, heads, 0, head_size), np.float32)

    def complete_prompt(self, prompt: str, max_tokens: int = MAX_NEW_TOKENS) -> str:
        """Continue a prompt with the likeliest token each time (greedy decoding).

        It ends where the model ends the text, after `max_tokens`, or when the context is full.
        """
        prompt_ids = self.tokenizer.encode(prompt, add_special_tokens=False).ids
        context = [self.boundaries.bos_id, *prompt_ids][-self.max_length + 1 :]
        new = np.array([context], np.int64)
        past = self.empty_cache(1)
        generated: list[int] = []
        while len(generated) < max_tokens and past.shape[4] + new.shape[1] <= self.max_length:
            logits, past = self.run_step(new, past)
            token = int(logits[0, -1].argmax())
            if token == self.boundaries.eos_id:
                return self.tokenizer.decode(generated)
            generated.append(token)
            new = np.array([[token]], np.int64)
        return self.tokenizer.decode(generated) + CUT_MARK

    def sample_continuations(self, rows: Sequence[PromptedText]) -> list[dict[str, str]]:
        """Continue the prompts of up to MAX_SAMPLES rows, evenly spread, beside their texts."""
        last = len(rows) - 1
        indices = {round(sample * last / (MAX_SAMPLES - 1)) for sample in range(MAX_SAMPLES)}
        return [
            {**rows[index], "predicted": self.complete_prompt(rows[index]["prompt"])}
            for index in sorted(indices)
        ]


def cross_entropy(logits: Floats, targets: NDArray[np.int64]) -> Floats:
    """Return the negative log-probability of each target; logits are `[tokens, vocabulary]`."""
    highest = logits.max(1)
    log_sum = np.log(np.exp(logits - highest[:, None]).sum(1))
    loss: Floats = highest + log_sum - logits[np.arange(len(targets)), targets]
    return loss


def batch_by_length(windows: list[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Yield batches of windows of about equal length, the longest first."""
    remaining = sorted(windows, key=len)
    while remaining:
        count = max(1, batch_tokens // len(remaining[-1]))
        yield remaining[-count:]
        remaining = remaining[:-count]


def pad_windows(windows: list[Window], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return tokens and targets of windows, the longest last: each `[windows, longest]`."""
    shape = (len(windows), len(windows[-1]))
    ids = np.full(shape, pad_id, np.int64)
    targets = np.full(shape, IGNORED_TARGET, np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window.tokens
        targets[row, : len(window)] = window.targets
    return ids, targets
