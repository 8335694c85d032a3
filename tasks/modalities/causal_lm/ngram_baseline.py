"""The baseline of language models: trigrams of tokens.

They are interpolated by modified Kneser-Ney smoothing (Chen and Goodman 1999).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.modalities.causal_lm.packing import PromptedText
from tasks.problems.base import Problem, Targets
from tasks.problems.language import PREDICTION_COLUMNS, LanguageProblem
from tasks.statistics.array_types import Floats

Ints = NDArray[np.int64]
NGRAM_ORDER = 3


@dataclass(frozen=True)
class NgramLevel:
    """The n-grams of one length.

    An n-gram is a number: its context (the tokens before its last one, also a number) times the
    size of the vocabulary, plus its last token.
    """

    ngrams: Ints  # sorted
    discounted_share: Floats  # of each n-gram among those of its context
    contexts: Ints  # sorted
    backoff_weight: Floats  # what the discounts leave in each context for shorter n-grams


class TrigramModel:
    """Probabilities of a token after the two before it."""

    def __init__(self, texts: Sequence[Sequence[int] | NDArray[np.int32]], vocab_size: int) -> None:
        """Fit on texts as token ids, each of which begins with the same token."""
        self.vocab_size = vocab_size
        self.levels = self.fit_levels(texts)
        self.most_likely_by_context = [
            self.find_most_likely(level, length) for length, level in enumerate(self.levels, 1)
        ]

    def fit_levels(self, texts: Sequence[Sequence[int] | NDArray[np.int32]]) -> list[NgramLevel]:
        """Fit unigrams, bigrams and trigrams."""
        all_ngrams = np.concatenate([self.to_ngrams(text) for text in texts])
        ngrams, counts = np.unique(all_ngrams, return_counts=True)
        levels: list[NgramLevel] = []
        for length in range(NGRAM_ORDER, 0, -1):
            levels.insert(0, fit_level(ngrams, counts, self.vocab_size))
            # A shorter n-gram counts once for each token that is seen before it.
            shorter = ngrams % self.vocab_size ** (length - 1)
            ngrams, counts = np.unique(shorter, return_counts=True)
        return levels

    def find_most_likely(self, level: NgramLevel, length: int) -> Ints:
        """Return the likeliest of the tokens seen after each context of a level."""
        contexts = level.ngrams // self.vocab_size
        order = np.lexsort((-self.probabilities(level.ngrams, length), contexts))
        first_of_context = np.unique(contexts[order], return_index=True)[1]
        most_likely: Ints = level.ngrams[order][first_of_context] % self.vocab_size
        return most_likely

    def to_ngrams(self, text: Sequence[int] | NDArray[np.int32]) -> Ints:
        """Return the trigram that ends with each token but the first.

        What would lie before the text is its first token again.
        """
        ids = np.array([text[0], *text], dtype=np.int64)
        contexts = ids[:-2] * self.vocab_size + ids[1:-1]
        ngrams: Ints = contexts * self.vocab_size + ids[2:]
        return ngrams

    def probabilities(self, ngrams: Ints, length: int = NGRAM_ORDER) -> Floats:
        """Return the probability of each n-gram's last token after the others, `[n-grams]`.

        Over the whole vocabulary they sum to one.
        """
        result = np.full(len(ngrams), 1 / self.vocab_size)
        for level_length, level in enumerate(self.levels[:length], 1):
            ngram = ngrams % self.vocab_size**level_length
            context = ngram // self.vocab_size
            share = look_up_values(level.ngrams, level.discounted_share, ngram, 0.0)
            backoff = look_up_values(level.contexts, level.backoff_weight, context, 1.0)
            result = share + backoff * result
        return result

    def most_likely_tokens(self, trigrams: Ints) -> Ints:
        """Return the likeliest last token after the others of each trigram.

        A token that was not seen after all of them is at best the likeliest after fewer.
        """
        contexts = trigrams // self.vocab_size
        default = int(self.most_likely_by_context[0][0])
        candidates = []
        for index, level in enumerate(self.levels):
            shorter = contexts % self.vocab_size**index
            most_likely = self.most_likely_by_context[index]
            candidates.append(look_up_values(level.contexts, most_likely, shorter, default))
        probabilities = np.stack(
            [self.probabilities(contexts * self.vocab_size + tokens) for tokens in candidates]
        )  # [candidates, trigrams]
        best = probabilities.argmax(0)[None]
        most_likely_tokens: Ints = np.take_along_axis(np.stack(candidates), best, 0)[0]
        return most_likely_tokens


def fit_level(ngrams: Ints, counts: Ints, vocab_size: int) -> NgramLevel:
    """Fit the n-grams of one length, sorted, from how often each was seen."""
    contexts, starts = np.unique(ngrams // vocab_size, return_index=True)
    discounts = compute_discounts(counts)[np.minimum(counts, 3)]
    context_totals = np.add.reduceat(counts, starts)
    context_sizes = np.diff(np.append(starts, len(ngrams)))
    return NgramLevel(
        ngrams=ngrams,
        discounted_share=(counts - discounts) / np.repeat(context_totals, context_sizes),
        contexts=contexts,
        backoff_weight=np.add.reduceat(discounts, starts) / context_totals,
    )


def compute_discounts(counts: Ints) -> Floats:
    """Return what is taken from an n-gram seen never, once, twice and more often, `[4]`."""
    n_seen = [max(1, int((counts == times).sum())) for times in (1, 2, 3, 4)]
    once, twice, three_times, four_times = n_seen
    rest = once / (once + 2 * twice)
    discounts = [
        0,
        1 - 2 * rest * twice / once,
        2 - 3 * rest * three_times / twice,
        3 - 4 * rest * four_times / three_times,
    ]
    return np.clip(discounts, 0.1, [1, 0.9, 1.9, 2.9])


def look_up_values(known: Ints, values: NDArray[Any], wanted: Ints, default: float) -> NDArray[Any]:
    """Return the value of each wanted number, `known` being sorted; else the default."""
    index = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.asarray(np.where(known[index] == wanted, values[index], default))


def predict_baseline(
    train: Sequence[PromptedText],
    targets: Targets,  # noqa: ARG001  the texts are the targets
    rows: Sequence[PromptedText],
    problem: Problem,
) -> Floats:
    """Score texts with trigrams of the model's own tokens, fitted on `train` with its prompts.

    Returns loss, tokens, hits and bytes of each row's text, `[rows, 4]`.
    """
    assert isinstance(problem, LanguageProblem)
    tokenizer = problem.tokenizer
    assert tokenizer is not None, "the problem is not an exported model's"
    examples = tokenizer.encode(train)
    model = TrigramModel([example.tokens for example in examples], tokenizer.vocab_size)
    scores = np.zeros((len(rows), len(PREDICTION_COLUMNS)))
    for row, example in enumerate(tokenizer.encode(rows)):
        trigrams = model.to_ngrams(example.tokens)[example.text_start - 1 :]
        is_likeliest = model.most_likely_tokens(trigrams) == trigrams % model.vocab_size
        loss = -np.log(model.probabilities(trigrams)).sum()
        scores[row] = loss, len(trigrams), is_likeliest.sum(), example.text_bytes
    return scores
