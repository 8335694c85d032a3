"""A linear model on the tokens and pairs of tokens of a text (TF-IDF), added to the network.

The network knows what words mean; this model knows the words of the data, also those after
`max_length`. Together they are right more often than either, as a wide and a deep model are
(Cheng et al. 2016). They are trained apart, or the one that learns faster would leave nothing to
learn; the validation split gives the weight.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasks.modalities import batching
from tasks.modalities.batching import TokenIds
from tasks.problems.base import Problem, Targets
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.storage.layout import ModelFolder

TFIDF_FILE = "tfidf.safetensors"
INITIAL_WEIGHT = 1.0  # of the model beside the network, before the validation split gives it
# Of the linear model: rows are short, and few terms are in many of them.
INVERSE_REGULARIZATION = 30
PAIR_FACTOR = 1 << 24  # more than any vocabulary has tokens

Terms = NDArray[np.int64]  # tokens and pairs of tokens, each as one number
SparseMatrix = Any  # scipy.sparse.csr_array


def weigh_terms(ids: Sequence[int] | TokenIds) -> tuple[Terms, Floats]:
    """Return a text's tokens and pairs of neighbours, sorted, and 1 + log of their counts."""
    tokens = np.asarray(ids, np.int64)
    pairs = (tokens[:-1] + 1) * PAIR_FACTOR + tokens[1:]
    terms, counts = np.unique(np.concatenate([tokens, pairs]), return_counts=True)
    return terms, 1.0 + np.log(counts)


def tokenize_terms(folder: Path, rows: Sequence[str]) -> list[tuple[Terms, Floats]]:
    """Weigh the terms of texts with the model's tokenizer, without a maximum length."""
    tokenizer = Tokenizer.from_file(str(ModelFolder(folder).tokenizer))
    tokenizer.no_truncation()
    token_ids = batching.tokenize(tokenizer, rows, add_special_tokens=False)
    return [weigh_terms(ids) for ids in token_ids]


def build_term_matrix(
    texts: Sequence[tuple[Terms, Floats]], vocabulary: Terms, idf: Floats
) -> SparseMatrix:
    """Return rows of length 1 over the terms of the vocabulary, `[texts, terms]`."""
    from scipy.sparse import csr_array

    values = [np.zeros(0)]
    columns = [np.zeros(0, np.int64)]
    row_ends = [0]
    for terms, weights in texts:
        index = np.searchsorted(vocabulary, terms)
        is_known = vocabulary[np.minimum(index, len(vocabulary) - 1)] == terms
        row = weights[is_known] * idf[index[is_known]]
        values.append(row / (np.linalg.norm(row) or 1.0))
        columns.append(index[is_known])
        row_ends.append(row_ends[-1] + len(row))
    shape = (len(texts), len(vocabulary))
    return csr_array((np.concatenate(values), np.concatenate(columns), row_ends), shape)


class TfidfModel:
    """The fitted model in the folder of an exported model."""

    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        self.folder = folder
        self.arrays = load_file(folder / TFIDF_FILE)

    def __call__(self, rows: Sequence[str]) -> Floats:
        """Return outputs for texts, `[rows, classes]`, to be added to the network's."""
        terms = tokenize_terms(self.folder, rows)
        matrix = build_term_matrix(terms, self.arrays["known"], self.arrays["rarity"])
        return np.asarray(matrix @ self.arrays["weights"] + self.arrays["bias"], np.float64)


def fit_tfidf(folder: Path, problem: Problem, rows: Sequence[str], targets: Targets) -> None:
    """Fit the model and write it beside the exported network in `folder`."""
    texts = tokenize_terms(folder, rows)
    vocabulary, idf = choose_vocabulary(texts)
    model = problem.build_linear_baseline(INVERSE_REGULARIZATION)
    model.fit(build_term_matrix(texts, vocabulary, idf), targets)
    write_tfidf(
        folder / TFIDF_FILE,
        {
            "known": vocabulary,
            "rarity": idf.astype(np.float32),
            "weights": np.ascontiguousarray(two_sided(model.coef_).T).astype(np.float32),
            "bias": two_sided(model.intercept_).astype(np.float32),
        },
    )


def choose_vocabulary(texts: Sequence[tuple[Terms, Floats]]) -> tuple[Terms, Floats]:
    """Return the terms that are in several texts, and their inverse document frequencies."""
    all_terms = np.concatenate([terms for terms, _ in texts])
    terms, n_texts = np.unique(all_terms, return_counts=True)
    is_frequent = n_texts > min(1, n_texts.max() - 1)
    idf = np.log((1 + len(texts)) / (1 + n_texts[is_frequent])) + 1
    return terms[is_frequent], idf


def two_sided(values: Floats) -> Floats:
    """Return the values of both classes if the model has those of the second alone."""
    if len(values) > 1:
        return values
    return np.concatenate([-values, values]) / 2


def write_tfidf(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write the arrays as safetensors."""
    from safetensors.numpy import save_file

    with files.atomic_file(path) as temporary:
        save_file(arrays, temporary)
