"""Label models: one label with a confidence for each row, from votes of labelling functions.

The functions are sometimes wrong and often abstain.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VoteMatrix = NDArray[np.int64]  # [rows, functions]: the index of a class, or ABSTAIN
ClassIndices = NDArray[np.int64]  # [rows]: the index of a class, or ABSTAIN for unknown
ABSTAIN = -1
MAX_ITERATIONS = 1000
TOLERANCE = 1e-6  # of the accuracies, at which EM ends
TIE_TOLERANCE = 1e-9  # of the posterior
# If each function votes for one class only, the votes say little about the functions' accuracies,
# and EM ends with one class for all rows. A prior of fifty votes at 0.7, and accuracies of at
# least a half, give the majority's result there, and cost 0.03 of accuracy if functions do overlap.
PRIOR_VOTES = 50
PRIOR_ACCURACY = 0.7
MIN_ACCURACY = 0.5
MAX_ACCURACY = 0.99


@dataclass(frozen=True)
class LabelModelFit:
    """What a label model makes of the votes."""

    posterior: NDArray[np.float64]  # [rows, classes]; all 0 if no function votes
    accuracy: NDArray[np.float64] | None  # [functions], if the model estimates it
    weight: NDArray[np.float64]  # [functions], of a vote

    def decide(self, confidence: float) -> tuple[ClassIndices, NDArray[np.bool_]]:
        """Return the best class of each row, and whether it is unique and confident enough."""
        is_confident = self.posterior.max(axis=1) > confidence - TIE_TOLERANCE
        return self.posterior.argmax(axis=1), has_unique_best(self.posterior) & is_confident


LabelModel = Callable[[VoteMatrix, int, ClassIndices], LabelModelFit]


def has_unique_best(posterior: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each row whether exactly one class is the best; never if no function votes."""
    best = posterior.max(axis=1, keepdims=True, initial=0)  # [rows, 1]
    n_best = (posterior > best - TIE_TOLERANCE).sum(axis=1)  # [rows]
    return np.asarray((best[:, 0] > 0) & (n_best == 1))


def fit_majority(votes: VoteMatrix, n_classes: int, _known: ClassIndices) -> LabelModelFit:
    """Count each vote once; the posterior of a class is its share of a row's votes."""
    counts = [(votes == index).sum(axis=1) for index in range(n_classes)]
    by_class = np.stack(counts, axis=1).astype(float)  # [rows, classes]
    n_votes = by_class.sum(axis=1, keepdims=True)  # [rows, 1]
    return LabelModelFit(by_class / np.maximum(n_votes, 1), None, np.ones(votes.shape[1]))


def fit_dawid_skene(votes: VoteMatrix, n_classes: int, known: ClassIndices) -> LabelModelFit:
    """Estimate the accuracies and the labels by EM, beginning with the majority's labels.

    Dawid and Skene (1979), with one accuracy for each function instead of a confusion matrix,
    because many functions vote for one class only. Abstaining carries no information, all classes
    are equally likely a priori, and known labels are held fixed.
    """
    posterior = fit_majority(votes, n_classes, known).posterior
    accuracy = np.zeros(votes.shape[1])
    has_no_votes = (votes < 0).all(axis=1)  # [rows]
    rows, voters = np.nonzero(votes >= 0)  # [votes]
    for _ in range(MAX_ITERATIONS):
        previous = accuracy
        accuracy = estimate_accuracies(votes, posterior, known)
        weight = np.log(accuracy * max(n_classes - 1, 1) / (1 - accuracy))  # [functions]
        score = np.zeros(posterior.shape)  # [rows, classes]
        np.add.at(score, (rows, votes[rows, voters]), weight[voters])
        posterior = np.exp(score - score.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        posterior[has_no_votes] = 0
        if np.abs(accuracy - previous).max(initial=0) < TOLERANCE:
            break
    return LabelModelFit(posterior, accuracy, weight)


def estimate_accuracies(
    votes: VoteMatrix, posterior: NDArray[np.float64], known: ClassIndices
) -> NDArray[np.float64]:
    """Estimate how often each function is right, shape `[functions]`.

    A row counts if another function votes too or the label is known: alone, a function would only
    agree with itself.
    """
    is_known = known >= 0  # [rows]
    one_hot = np.arange(posterior.shape[1]) == known[:, None]  # [rows, classes]
    truth = np.where(is_known[:, None], one_hot, posterior)  # [rows, classes]
    is_informative = ((votes >= 0).sum(axis=1) > 1) | is_known  # [rows]
    accuracy = np.zeros(votes.shape[1])
    for function, vote in enumerate(votes.T):
        rows = np.flatnonzero(is_informative & (vote >= 0))
        n_correct = truth[rows, vote[rows]].sum() + PRIOR_VOTES * PRIOR_ACCURACY
        accuracy[function] = n_correct / (len(rows) + PRIOR_VOTES)
    return accuracy.clip(MIN_ACCURACY, MAX_ACCURACY)


LABEL_MODELS: dict[str, LabelModel] = {
    "majority": fit_majority,
    "dawid_skene": fit_dawid_skene,
}
