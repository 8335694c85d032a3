"""The label model, on votes whose true labels and accuracies are known."""

import numpy as np
import pytest

from tasks.labelling import function_report, label_model
from tasks.labelling.function_report import VoteCounts
from tasks.labelling.label_model import VoteMatrix

PLANTED = (0.9, 0.8, 0.7, 0.55)


def simulated(classes: int, seed: int = 0, rows: int = 2000) -> tuple[VoteMatrix, VoteMatrix]:
    """Return true labels, and the votes of four functions that abstain on three rows of ten."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    votes = np.stack(
        [
            np.where(
                random.random(rows) < accuracy,
                truth,
                (truth + random.integers(1, classes, rows)) % classes,
            )
            for accuracy in PLANTED
        ],
        axis=1,
    )
    votes[random.random(votes.shape) < 0.3] = -1
    return truth, votes


def right(posterior: np.ndarray, truth: VoteMatrix, votes: VoteMatrix) -> float:
    voted = (votes >= 0).any(axis=1)
    return float((posterior.argmax(axis=1) == truth)[voted].mean())


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_accuracies_are_recovered_and_the_labels_beat_the_majority(
    classes: int, seed: int
) -> None:
    truth, votes = simulated(classes, seed)
    unknown = np.full(len(truth), -1)
    fitted = label_model.fit_dawid_skene(votes, classes, unknown)
    assert fitted.accuracy is not None
    assert np.abs(fitted.accuracy - PLANTED).max() < 0.06
    assert np.abs(fitted.accuracy - PLANTED).mean() < 0.035
    assert (np.diff(fitted.weight) < 0).all()
    assert (
        right(fitted.posterior, truth, votes)
        > right(label_model.fit_majority(votes, classes, unknown).posterior, truth, votes) + 0.02
    )


def test_the_posterior_is_as_sure_as_it_is_right() -> None:
    truth, votes = simulated(3, rows=5000)
    posterior = label_model.fit_dawid_skene(votes, 3, np.full(len(truth), -1)).posterior
    voted = (votes >= 0).any(axis=1)
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        part = voted & (posterior.max(axis=1) >= low) & (posterior.max(axis=1) < high)
        assert part.sum() > 100
        assert (
            abs(
                posterior[part].max(axis=1).mean()
                - (posterior.argmax(axis=1) == truth)[part].mean()
            )
            < 0.05
        )


def test_known_labels_bring_the_estimates_nearer() -> None:
    truth, votes = simulated(2)
    some = np.where(np.arange(len(truth)) % 5 == 0, truth, -1)
    without, beside = (
        label_model.fit_dawid_skene(votes, 2, known).accuracy
        for known in (np.full(len(truth), -1), some)
    )
    assert without is not None and beside is not None
    assert np.abs(beside - PLANTED).mean() < np.abs(without - PLANTED).mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_functions_that_each_vote_for_one_class_are_no_worse_than_their_majority(seed: int) -> None:
    """Without its prior, EM gives all rows to one class here and loses up to a third of them."""
    random = np.random.default_rng(seed)
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    truth = random.choice(4, 3000, p=shares)
    votes = np.full((3000, 12), -1)
    for number in range(12):
        own, found, precise = number % 4, random.uniform(0.1, 0.4), random.uniform(0.55, 0.97)
        stray = found * shares[own] * (1 - precise) / precise / (1 - shares[own])
        votes[random.random(3000) < np.where(truth == own, found, stray), number] = own
    unknown = np.full(3000, -1)
    learned, counted = (
        label_model.fit_dawid_skene(votes, 4, unknown).posterior,
        label_model.fit_majority(votes, 4, unknown).posterior,
    )
    assert right(learned, truth, votes) > right(counted, truth, votes) - 0.01


def test_a_tie_and_a_row_without_votes_are_not_decided() -> None:
    votes = np.array([[0, 1, -1], [0, 0, 1], [-1, -1, -1], [1, -1, -1]])
    for model in label_model.LABEL_MODELS.values():
        best, sure = model(votes, 2, np.full(4, -1)).decide(0.5)
        assert sure.tolist() == [False, True, False, True]
        assert best[sure].tolist() == [0, 1]
    assert label_model.fit_majority(votes, 2, np.full(4, -1)).decide(1.0)[1].tolist() == [
        False,
        False,
        False,
        True,
    ]


def test_votes_overlaps_conflicts_and_right_ones_are_counted() -> None:
    votes = np.array([[0, 1, -1], [0, 0, 1], [-1, -1, -1], [1, -1, -1], [0, 0, -1]])
    first, second, third = function_report.count_votes(votes, np.array([0, 0, 0, 0, -1]))
    assert first == VoteCounts(votes=4, overlaps=3, conflicts=2, gold=3, correct=2)
    assert second == VoteCounts(votes=3, overlaps=3, conflicts=2, gold=2, correct=1)
    assert third == VoteCounts(votes=1, overlaps=1, conflicts=1, gold=1, correct=0)
