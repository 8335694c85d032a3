"""Which test rows are new to a model that was trained on an earlier split.

A row that the model learnt, or one like it, would flatter it.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.core.errors import StageError
from tasks.rows import leakage, near_duplicates
from tasks.statistics.array_types import Flags
from tasks.storage import files, hashing
from tasks.storage.layout import ModelFolder, StagePaths


def find_unseen_rows(test: pa.Table, paths: StagePaths, model: ModelFolder, modality: str) -> Flags:
    """Find the test rows that a model cannot know.

    A row is known if the model was trained on it, or on a row of its cluster of equal rows and
    near-duplicates. Such a row lies in the test split itself, or clean or split rejected it
    since: no row of today's train and val splits is like one of the test split.

    Args:
        test: The test split.
        paths: Where the rows that clean and split rejected lie.
        model: An exported model, which names the rows that it was trained on.
        modality: What the rows are, which decides when two are alike.

    Returns:
        Whether each test row is new to the model, `[rows]`.
    """
    trained_on = read_training_rows(model)
    columns = ["id", *near_duplicates.find_content_columns(test, modality)]
    tables = [test, *read_known_rejects(paths, columns, trained_on)]
    # Whether each row was trained on: first the test rows, then those that were rejected.
    is_known = np.concatenate([mask_training_rows(table, trained_on) for table in tables])
    if is_known.any():
        is_known[find_rows_like_known(tables, columns, modality, is_known)] = True
    return np.asarray(~is_known[: test.num_rows])


def read_training_rows(model: ModelFolder) -> set[bytes]:
    """Return the hashes of the ids of the rows that a model was trained on.

    Raises:
        StageError: The model does not name them.
    """
    if not model.trained_on.is_file():
        raise StageError(
            f"gate: {model.path} does not say on which rows it was trained "
            f"({model.trained_on.name}), so nothing can be compared with it fairly."
        )
    return set(files.read_table(model.trained_on)["id"].to_pylist())


def read_known_rejects(
    paths: StagePaths, columns: list[str], trained_on: Collection[bytes]
) -> Iterator[pa.Table]:
    """Read the rows that split and clean rejected and that the model was trained on.

    Rejects that lack a column of the content cannot be compared, so they are passed over.
    """
    rejects_of_clean = sorted(paths.clean.rejects.glob("*.parquet"))
    for path in (paths.split.rejects, *rejects_of_clean):
        if not path.is_file():
            continue
        rejects = files.read_table(path)
        if set(columns) <= set(rejects.column_names):
            yield rejects.filter(pa.array(mask_training_rows(rejects, trained_on)))


def mask_training_rows(table: pa.Table, trained_on: Collection[bytes]) -> Flags:
    """Return whether a model was trained on each row, `[rows]`."""
    ids = table["id"].to_pylist()
    return np.array([hashing.hash_row_id(str(name)) in trained_on for name in ids], dtype=bool)


def find_rows_like_known(
    tables: list[pa.Table], columns: list[str], modality: str, is_known: Flags
) -> list[int]:
    """Return the positions of rows that are equal or nearly equal to known ones."""
    ids: list[str] = []
    contents: list[Any] = []
    for table in tables:
        ids.extend(table["id"].to_pylist())
        contents.extend(near_duplicates.read_contents(table.select(columns), modality))
    # Of rows that are alike, those of `test` stay. So known rows stand for `test` here.
    splits = ["test" if known else "train" for known in is_known]
    return list(leakage.find_leaking_rows(ids, contents, splits).reasons)
