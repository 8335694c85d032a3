"""Misspelt values become frequent ones, and words of their own stay."""

import random
from collections import Counter

from tasks.cleaning import spelling
from tests.cleaning.rule_helpers import applied


def test_rare_spellings_become_frequent_ones_and_words_of_their_own_stay() -> None:
    cells = (
        ["Birmingham"] * 30
        + ["birmingham", "Birminghxm", "Birmxngxam", "Boaz", "male"]
        + ["room 1"] * 20
        + ["room 2", None]
        + ["female"] * 40
    )
    after, _ = applied(
        "spelling", {"a": cells, "b": cells}, columns=["a"], map={"boaz": "Boaz, AL"}
    )
    assert after["a"] == ["Birmingham"] * 33 + ["Boaz, AL", "male"] + cells[35:]
    assert after["b"] == cells


def test_a_value_between_two_equally_near_ones_stays() -> None:
    cells = ["kitten"] * 20 + ["mitten"] * 20 + ["bitten"]
    assert applied("spelling", {"a": cells}, columns=["a"])[0]["a"] == cells


def test_the_index_finds_every_pair_that_comparing_all_finds() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abc", k=draw.randint(4, 9))) for _ in range(60)]
    frequent = set(words[::3])
    counts = Counter({word: 50 if word in frequent else 1 for word in words})
    expected = {}
    for word in set(words) - frequent:
        nearest = spelling.find_nearest(word, frequent, 2)
        if nearest:
            expected[word] = nearest
    assert len(expected) > 5
    assert spelling.find_corrections(counts, 2, 10.0) == expected
