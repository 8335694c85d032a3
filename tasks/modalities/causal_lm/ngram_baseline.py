"""The baseline of language models: trigrams of tokens, interpolated by modified Kneser-Ney smoothing (Chen and Goodman 1999)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NGRAM_ORDER = 3


@dataclass(frozen=True)
class NgramLevel:
    """The n-grams of one length. An n-gram is one number, its context (the tokens before the last, also one number) times the vocabulary plus the last."""

    grams: Ints  # sorted
    share: Floats  # the discounted share of each among those of its context
    contexts: Ints  # sorted
    left: Floats  # what the discounts leave in each context for shorter n-grams


class TrigramModel:
    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int) -> None:
        """Fit on texts as token ids, each of which begins with a token that says so."""
        self.vocabulary = vocabulary
        grams, counts = np.unique(
            np.concatenate([self.grams(text) for text in texts]), return_counts=True
        )
        self.levels: list[NgramLevel] = []
        for length in range(NGRAM_ORDER, 0, -1):
            self.levels.insert(0, fit_level(grams, counts, vocabulary))
            grams, counts = np.unique(
                grams % vocabulary ** (length - 1), return_counts=True
            )  # a shorter one counts once for each token before it
        self.best = []  # for each context of a level the likeliest of the tokens that were seen after it
        for number, one in enumerate(self.levels, 1):
            contexts = one.grams // vocabulary
            order = np.lexsort((-self.probabilities(one.grams, number), contexts))
            self.best.append(
                one.grams[order][np.unique(contexts[order], return_index=True)[1]] % vocabulary
            )

    def grams(self, text: Sequence[int]) -> Ints:
        """The trigram that ends with each token but the first; what would lie before the text is its first token again."""
        ids = np.array([text[0], *text], dtype=np.int64)
        found: Ints = (ids[:-2] * self.vocabulary + ids[1:-1]) * self.vocabulary + ids[2:]
        return found

    def probabilities(self, grams: Ints, length: int = NGRAM_ORDER) -> Floats:
        """Of the last token of each n-gram after the others; over the whole vocabulary they sum to one."""
        result = np.full(len(grams), 1 / self.vocabulary)
        for number, one in enumerate(self.levels[:length], 1):
            gram = grams % self.vocabulary**number
            result = (
                look_up_values(one.grams, one.share, gram, 0.0)
                + look_up_values(one.contexts, one.left, gram // self.vocabulary, 1.0) * result
            )
        return result

    def most_likely_tokens(self, grams: Ints) -> Ints:
        """The likeliest last token after the others of each trigram: a token not seen after all of them is at best the likeliest after fewer."""
        contexts = grams // self.vocabulary
        found = zip(self.levels, self.best, strict=True)
        tokens = [
            look_up_values(
                one.contexts, best, contexts % self.vocabulary**number, int(self.best[0][0])
            )
            for number, (one, best) in enumerate(found)
        ]
        chances = np.stack(
            [self.probabilities(contexts * self.vocabulary + token) for token in tokens]
        )
        chosen: Ints = np.take_along_axis(np.stack(tokens), chances.argmax(0)[None], 0)[0]
        return chosen


def fit_level(grams: Ints, counts: Ints, vocabulary: int) -> NgramLevel:
    contexts, starts = np.unique(grams // vocabulary, return_index=True)
    once, twice, thrice, often = (max(1, int((counts == times).sum())) for times in (1, 2, 3, 4))
    rest = once / (once + 2 * twice)
    discounts = np.clip(
        [
            0,
            1 - 2 * rest * twice / once,
            2 - 3 * rest * thrice / twice,
            3 - 4 * rest * often / thrice,
        ],
        0.1,
        [1, 0.9, 1.9, 2.9],
    )
    taken = discounts[np.minimum(counts, 3)]
    totals = np.add.reduceat(counts, starts)
    sizes = np.diff(np.append(starts, len(grams)))
    return NgramLevel(
        grams,
        (counts - taken) / np.repeat(totals, sizes),
        contexts,
        np.add.reduceat(taken, starts) / totals,
    )


def look_up_values(known: Ints, values: NDArray[Any], wanted: Ints, default: float) -> NDArray[Any]:
    """The value of each wanted number, known being sorted; the default where it is not known."""
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.asarray(np.where(known[at] == wanted, values[at], default))
