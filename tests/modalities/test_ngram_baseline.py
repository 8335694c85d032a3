"""The trigrams that language models are compared with."""

import numpy as np
import pytest

from tasks.modalities.causal_lm.ngram_baseline import TrigramModel

VOCAB_SIZE = 20


def test_probabilities_sum_to_one_and_the_likeliest_token_has_the_largest() -> None:
    rng = np.random.default_rng(0)
    texts = [[0, *(rng.zipf(1.5, 30) % VOCAB_SIZE).tolist()] for _ in range(40)]
    model = TrigramModel(texts, VOCAB_SIZE)
    for first, second in ([0, 0], [0, 1], [1, 2], [19, 19], [7, 0]):
        context = first * VOCAB_SIZE + second
        ngrams = context * VOCAB_SIZE + np.arange(VOCAB_SIZE)
        probabilities = model.probabilities(ngrams)
        assert probabilities.sum() == pytest.approx(1)
        assert (probabilities > 0).all()
        most_likely = model.most_likely_tokens(ngrams[:1])[0]
        assert probabilities[most_likely] == probabilities.max()


def test_what_always_follows_is_predicted() -> None:
    model = TrigramModel([[0, *[1, 2, 3] * 20]] * 3, 10)
    ngrams = model.to_ngrams([0, 1, 2, 3, 1, 2, 3])
    assert model.probabilities(ngrams)[1:].min() > 0.9
    assert model.most_likely_tokens(ngrams).tolist() == [1, 2, 3, 1, 2, 3]
