"""The label model: one label with a confidence for each row, from the votes of functions that are sometimes wrong and often abstain.

And what labelled/report.json tells of these functions.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Votes = NDArray[np.int64]  # (rows, functions): the number of a class, or -1
ROUNDS, CLOSE = 1000, 1e-6
# Functions that each vote for one class only say little about each other's accuracy, and EM then ends where one class takes all. Fifty imagined votes at
# 0.7, and never less than a half, keep it at majority's level there and cost 0.03 where functions do overlap.
IMAGINED, USUAL, LEAST, MOST = 50, 0.7, 0.5, 0.99


class Fitted(NamedTuple):
    posterior: NDArray[np.float64]  # (rows, classes); all 0 where no function votes
    accuracy: NDArray[np.float64] | None  # of each function, where the model estimates it
    weight: NDArray[np.float64]  # of each function's vote

    def decided(self, confidence: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """For each row the best class, and whether its confidence is enough."""
        return self.posterior.argmax(axis=1), single(self.posterior) & (
            self.posterior.max(axis=1) > confidence - 1e-9
        )


def single(posterior: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether one class alone is the best of a row; never where no function votes."""
    top = posterior.max(axis=1, keepdims=True, initial=0)
    return np.asarray((top[:, 0] > 0) & ((posterior > top - 1e-9).sum(axis=1) == 1))


def majority(votes: Votes, classes: int, known: Votes) -> Fitted:
    """Each vote counts one, and the posterior is a class's share of them."""
    counts = np.stack([(votes == number).sum(axis=1) for number in range(classes)], axis=1).astype(
        float
    )
    return Fitted(
        counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), None, np.ones(votes.shape[1])
    )


def dawid_skene(votes: Votes, classes: int, known: Votes) -> Fitted:
    """Accuracies and labels by EM from the majority's (Dawid and Skene 1979), with one accuracy per function instead of a confusion matrix, since many
    functions vote for a single class; abstaining says nothing, all classes are as likely beforehand, and `known` labels (-1: none) are held."""
    posterior = majority(votes, classes, known).posterior
    accuracy = np.zeros(votes.shape[1])
    rows, voters = np.nonzero(votes >= 0)
    for _ in range(ROUNDS):
        before, accuracy = accuracy, accuracies(votes, posterior, known)
        weight = np.log(accuracy * max(classes - 1, 1) / (1 - accuracy))
        score = np.zeros(posterior.shape)
        np.add.at(score, (rows, votes[rows, voters]), weight[voters])
        posterior = np.exp(score - score.max(axis=1, keepdims=True))
        posterior /= posterior.sum(axis=1, keepdims=True)
        posterior[(votes < 0).all(axis=1)] = 0
        if np.abs(accuracy - before).max(initial=0) < CLOSE:
            break
    return Fitted(posterior, accuracy, weight)


def accuracies(votes: Votes, posterior: NDArray[np.float64], known: Votes) -> NDArray[np.float64]:
    """How often each function is right, where another one votes too or the label is known: alone it only agrees with itself."""
    held = np.where(
        (known >= 0)[:, None], np.arange(posterior.shape[1]) == known[:, None], posterior
    )
    told = ((votes >= 0).sum(axis=1) > 1) | (known >= 0)
    found = np.zeros(votes.shape[1])
    for number, vote in enumerate(votes.T):
        rows = np.flatnonzero(told & (vote >= 0))
        found[number] = (held[rows, vote[rows]].sum() + IMAGINED * USUAL) / (len(rows) + IMAGINED)
    return found.clip(LEAST, MOST)


MODELS = {"majority": majority, "dawid_skene": dawid_skene}


def counts(votes: Votes, known: Votes) -> list[dict[str, int]]:
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


def functions(
    declared: list[Any], votes: Votes, stated: Votes, known: Votes, fitted: Fitted
) -> list[Any]:
    """What the report says of each function. A trusted one is measured on what people and the source said alone, since the rest is its own word."""
    by_all, by_stated = counts(votes, known), counts(votes, stated)
    voters = [number for number, function in enumerate(declared) if not function.trusted]
    made = []
    for number, function in enumerate(declared):
        counted = (by_stated if function.trusted else by_all)[number]
        voter = voters.index(number) if number in voters else None
        estimated = (
            None if voter is None or fitted.accuracy is None else rounded(fitted.accuracy[voter])
        )
        about = {
            "kind": function.kind,
            "trusted": function.trusted,
            "reads": reads(function),
            "label": getattr(function, "label", None),
        }
        learned = {
            "estimated": estimated,
            "weight": None if voter is None else rounded(fitted.weight[voter]),
        }
        made.append(
            {
                **about,
                **counted,
                "coverage": rounded(counted["votes"] / max(len(votes), 1)),
                **learned,
            }
        )
    return made


def reads(function: Any) -> str:
    """What tells a function from others of its kind: its pattern, words, examples, file or folder."""
    value = next(
        getattr(function, name)
        for name in ("pattern", "words", "examples", "file", "path")
        if hasattr(function, name)
    )
    return value if isinstance(value, str) else ", ".join(value)


def rounded(value: float) -> float:
    return float(np.round(value, 4))
