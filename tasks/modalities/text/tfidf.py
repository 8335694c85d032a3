"""A linear model of which tokens and pairs of tokens a text has (TF-IDF), whose outputs are added to those of the network.

The network knows what words mean, this one knows the words of the data, also those after `max_length`: together they are right more often than either, as a
wide and a deep model are (Cheng et al. 2016). They are trained apart, or the one that learns faster would leave nothing to learn; val gives the weight.
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

TFIDF_FILE = "lexical.safetensors"
INVERSE_REGULARIZATION = (
    30  # of the linear model: rows are short, and few terms are in many of them
)
PAIR_FACTOR = 1 << 24  # more than any vocabulary has tokens


def weigh_terms(ids: Sequence[int] | TokenIds) -> tuple[NDArray[np.int64], Floats]:
    """The tokens and the pairs of neighbours, each as one number, and by how much a text has them: 1 + the logarithm of how often."""
    one = np.asarray(ids, np.int64)
    found, counts = np.unique(
        np.concatenate([one, (one[:-1] + 1) * PAIR_FACTOR + one[1:]]), return_counts=True
    )
    return found, 1.0 + np.log(counts)


def build_term_matrix(
    texts: Sequence[tuple[NDArray[np.int64], Floats]], known: NDArray[np.int64], rarity: Floats
) -> Any:
    """Rows of length 1 over the known terms, sparse, shape (texts, terms)."""
    from scipy.sparse import csr_array

    cells, places, ends = [np.zeros(0)], [np.zeros(0, np.int64)], [0]
    for found, amounts in texts:
        at = np.searchsorted(known, found)
        there = known[np.minimum(at, len(known) - 1)] == found
        row = amounts[there] * rarity[at[there]]
        cells.append(row / (np.linalg.norm(row) or 1.0))
        places.append(at[there])
        ends.append(ends[-1] + len(row))
    return csr_array(
        (np.concatenate(cells), np.concatenate(places), ends), (len(texts), len(known))
    )


def tokenize_terms(folder: Path, rows: Sequence[str]) -> list[tuple[NDArray[np.int64], Floats]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    return [weigh_terms(ids) for ids in batching.tokenize(tokenizer, rows, special=False)]


class TfidfModel:
    def __init__(self, folder: Path) -> None:
        from safetensors.numpy import load_file

        self.folder, self.parts = folder, load_file(folder / TFIDF_FILE)

    def __call__(self, rows: Sequence[str]) -> Floats:
        """Shape (rows, classes), as the network's outputs."""
        found = build_term_matrix(
            tokenize_terms(self.folder, rows), self.parts["known"], self.parts["rarity"]
        )
        return np.asarray(found @ self.parts["weights"] + self.parts["bias"], np.float64)


def fit_tfidf(folder: Path, problem: Problem, rows: Sequence[str], targets: Targets) -> None:
    """Write it beside the exported network in `folder`, and note its weight in model.json: at first 1."""
    from safetensors.numpy import save_file

    texts = tokenize_terms(folder, rows)
    met, within = np.unique(np.concatenate([found for found, _ in texts]), return_counts=True)
    often = within > min(1, within.max() - 1)
    known, rarity = met[often], np.log((1 + len(rows)) / (1 + within[often])) + 1
    fitted = problem.build_linear_baseline(INVERSE_REGULARIZATION).fit(
        build_term_matrix(texts, known, rarity), targets
    )
    weights, bias = (
        part if len(part) > 1 else np.concatenate([-part, part]) / 2
        for part in (fitted.coef_, fitted.intercept_)
    )
    numbers = {"rarity": rarity, "weights": np.ascontiguousarray(weights.T), "bias": bias}
    with files.atomic_file(folder / TFIDF_FILE) as temporary:
        save_file(
            {"known": known, **{name: part.astype(np.float32) for name, part in numbers.items()}},
            temporary,
        )
    files.write_json(
        folder / "model.json", {**files.read_json(folder / "model.json"), "lexical": 1.0}
    )
