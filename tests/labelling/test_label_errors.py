"""Label errors on labels that people checked."""

import json

import numpy as np
import pytest

from tasks.labelling.label_errors import rank_by_self_confidence
from tests.conftest import ROOT

CHECKED = ROOT.parent / "shared" / "data" / "label_errors"


@pytest.mark.skipif(not CHECKED.is_dir(), reason="the checked MNIST labels are not on this machine")
def test_12_of_15_confirmed_errors_are_among_the_100_most_suspicious() -> None:
    labels, probabilities = (
        np.load(CHECKED / f"mnist_test_set_{name}.npy") for name in ("original_labels", "pyx")
    )
    confirmed = {
        item["id"]
        for item in json.loads((CHECKED / "mnist_mturk.json").read_text())
        if item["mturk"]["given"] < 3
    }
    ranking = rank_by_self_confidence(labels, probabilities)
    assert len(confirmed) == 15 and sorted(ranking) == list(range(10_000))
    assert len(confirmed & set(ranking[:100].tolist())) >= 12


def test_the_label_with_the_least_probability_is_the_most_suspicious() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.01, 0.99]])
    assert rank_by_self_confidence(np.array([0, 0, 1, 1]), probabilities).tolist() == [1, 2, 0, 3]
