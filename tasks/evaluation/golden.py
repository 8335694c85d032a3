"""Golden requests: some test rows with the exported model's answers, kept with each version.

Whoever serves a version asks it these before it answers anybody else.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks import modalities
from tasks.evaluation.base import EvaluationContext
from tasks.storage import files, hashing

MAX_ROWS = 32
DIGITS = 6  # of an answer


def write_golden_requests(path: Path, context: EvaluationContext) -> None:
    """Write golden requests: `input`, `answers` (numbers `[width]`), `labels` and `id`, hashed."""
    ids = [str(row_id) for row_id in context.test["id"].to_pylist()]
    chosen = select_rows(ids, context.inputs, context.answers.argmax(axis=1).tolist())
    inputs = [context.inputs[row] for row in chosen]
    # Asked as whoever serves the version asks them: an int8 network's answers depend on the batch.
    answers = modalities.predict(context.predictor, inputs)
    table = pa.table(
        {
            "id": pa.array([hashing.hash_row_id(ids[row]) for row in chosen], pa.binary(8)),
            "input": pa.array(inputs),
            "answers": pa.array(np.round(answers, DIGITS).tolist()),
            "labels": pa.array([context.predictor.labels] * len(chosen)),
        }
    )
    files.write_table(path, table)


def select_rows(ids: Sequence[str], inputs: Sequence[Any], answers: Sequence[int]) -> list[int]:
    """Choose rows: the shortest and the longest, then one of each answer in turn.

    The choice among the rows of one answer depends on hashes of their ids alone.

    Args:
        ids: The rows' ids.
        inputs: What the model reads of each row.
        answers: The output of the model that is highest.
    """
    by_length = sorted(range(len(ids)), key=lambda row: (len(str(inputs[row])), ids[row]))
    rows_of_answer: dict[int, list[int]] = defaultdict(list)
    for row in sorted(range(len(ids)), key=lambda row: hashing.hash_row_id(ids[row])):
        rows_of_answer[answers[row]].append(row)
    groups = [rows_of_answer[answer] for answer in sorted(rows_of_answer)]
    candidates = [by_length[0], by_length[-1], *take_turns(groups)]
    return list(dict.fromkeys(candidates))[:MAX_ROWS]


def take_turns(groups: Sequence[Sequence[int]]) -> Iterator[int]:
    """Yield the first item of each group, then the second of each, and so on."""
    for items in itertools.zip_longest(*groups):
        yield from (item for item in items if item is not None)
