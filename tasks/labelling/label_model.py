"""The label model: one label with a confidence for each row, from the votes of functions that are sometimes wrong and often abstain.

And what labelled/report.json tells of these functions.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

VoteMatrix = NDArray[np.int64]  # (rows, functions): the number of a class, or -1
MAX_ITERATIONS, TOLERANCE = 1000, 1e-6
# Functions that each vote for one class only say little about each other's accuracy, and EM then ends where one class takes all. Fifty imagined votes at
# 0.7, and never less than a half, keep it at majority's level there and cost 0.03 where functions do overlap.
PRIOR_VOTES, PRIOR_ACCURACY, MIN_ACCURACY, MAX_ACCURACY = 50, 0.7, 0.5, 0.99


class LabelModelFit(NamedTuple):
    posterior: NDArray[np.float64]  # (rows, classes); all 0 where no function votes
    accuracy: NDArray[np.float64] | None  # of each function, where the model estimates it
    weight: NDArray[np.float64]  # of each function's vote

    def decide(self, confidence: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each row the best class, and whether its confidence is enough."""
        return self.posterior.argmax(axis=1), has_unique_best(self.posterior) & (
            self.posterior.max(axis=1) > confidence - 1e-9
        )


def has_unique_best(posterior: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether one class alone is the best of a row; never where no function votes."""
    top = posterior.max(axis=1, keepdims=True, initial=0)
    return np.asarray((top[:, 0] > 0) & ((posterior > top - 1e-9).sum(axis=1) == 1))


def fit_majority(votes: VoteMatrix, classes: int, known: VoteMatrix) -> LabelModelFit:
    """Each vote counts one, and the posterior is a class's share of them."""
    counts = np.stack([(votes == number).sum(axis=1) for number in range(classes)], axis=1).astype(
        float
    )
    return LabelModelFit(
        counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), None, np.ones(votes.shape[1])
    )


def fit_dawid_skene(votes: VoteMatrix, classes: int, known: VoteMatrix) -> LabelModelFit:
    """Accuracies and labels by EM from the majority's (Dawid and Skene 1979), with one accuracy per function instead of a confusion matrix, since many
    functions vote for a single class; abstaining says nothing, all classes are as likely beforehand, and `known` labels (-1: none) are held."""
    posterior = fit_majority(votes, classes, known).posterior
    accuracy = np.zeros(votes.shape[1])
    rows, voters = np.nonzero(votes >= 0)
    for _ in range(MAX_ITERATIONS):
        before, accuracy = accuracy, estimate_accuracies(votes, posterior, known)
        weight = np.log(accuracy * max(classes - 1, 1) / (1 - accuracy))
        score = np.zeros(posterior.shape)
        np.add.at(score, (rows, votes[rows, voters]), weight[voters])
        posterior = np.exp(score - score.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        posterior[(votes < 0).all(axis=1)] = 0
        if np.abs(accuracy - before).max(initial=0) < TOLERANCE:
            break
    return LabelModelFit(posterior, accuracy, weight)


def estimate_accuracies(
    votes: VoteMatrix, posterior: NDArray[np.float64], known: VoteMatrix
) -> NDArray[np.float64]:
    """How often each function is right, where another one votes too or the label is known: alone it only agrees with itself."""
    held = np.where(
        (known >= 0)[:, None], np.arange(posterior.shape[1]) == known[:, None], posterior
    )
    told = ((votes >= 0).sum(axis=1) > 1) | (known >= 0)
    found = np.zeros(votes.shape[1])
    for number, vote in enumerate(votes.T):
        rows = np.flatnonzero(told & (vote >= 0))
        found[number] = (held[rows, vote[rows]].sum() + PRIOR_VOTES * PRIOR_ACCURACY) / (
            len(rows) + PRIOR_VOTES
        )
    return found.clip(MIN_ACCURACY, MAX_ACCURACY)


LABEL_MODELS = {"majority": fit_majority, "dawid_skene": fit_dawid_skene}


def count_votes(votes: VoteMatrix, known: VoteMatrix) -> list[dict[str, int]]:
    """Of each function: votes, those beside another function's, those in a row where functions disagree, and how many of those on a known label are right."""
    voted, gold = votes >= 0, (votes >= 0) & (known >= 0)[:, None]
    several = voted.sum(axis=1, keepdims=True) > 1
    disagree = votes.max(axis=1, keepdims=True, initial=-1) != np.where(
        voted, votes, votes.max(initial=-1)
    ).min(axis=1, keepdims=True, initial=1 << 30)
    parts = {
        "votes": voted,
        "overlaps": voted & several,
        "conflicts": voted & several & disagree,
        "gold": gold,
        "right": gold & (votes == known[:, None]),
    }
    return [
        {name: int(part[:, number].sum()) for name, part in parts.items()}
        for number in range(votes.shape[1])
    ]


def report_functions(
    declared: list[Any],
    votes: VoteMatrix,
    stated: VoteMatrix,
    known: VoteMatrix,
    fitted: LabelModelFit,
) -> list[Any]:
    """What the report says of each function. A trusted one is measured on what people and the source said alone, since the rest is its own word."""
    by_all, by_stated = count_votes(votes, known), count_votes(votes, stated)
    voters = [number for number, function in enumerate(declared) if not function.trusted]
    made = []
    for number, function in enumerate(declared):
        counted = (by_stated if function.trusted else by_all)[number]
        voter = voters.index(number) if number in voters else None
        estimated = (
            None
            if voter is None or fitted.accuracy is None
            else round_value(fitted.accuracy[voter])
        )
        about = {
            "kind": function.kind,
            "trusted": function.trusted,
            "reads": format_definition(function),
            "label": getattr(function, "label", None),
        }
        learned = {
            "estimated": estimated,
            "weight": None if voter is None else round_value(fitted.weight[voter]),
        }
        made.append(
            {
                **about,
                **counted,
                "coverage": round_value(counted["votes"] / max(len(votes), 1)),
                **learned,
            }
        )
    return made


def format_definition(function: Any) -> str:
    """What tells a function from others of its kind: its pattern, words, examples, file or folder."""
    value = next(
        getattr(function, name)
        for name in ("pattern", "words", "examples", "file", "path")
        if hasattr(function, name)
    )
    return value if isinstance(value, str) else ", ".join(value)


def round_value(value: float) -> float:
    return float(np.round(value, 4))
