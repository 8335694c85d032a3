"""Which test rows are new to a model that was trained on an earlier split: a row that it learnt, or one like it, would flatter it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.rows import leakage, near_duplicates
from tasks.storage import files, hashing


def find_unseen_rows(test: pa.Table, folder: Path, model: Path, modality: str) -> NDArray[np.bool_]:
    """Whether each test row is new to the model: neither it nor a row of its cluster of equal rows and near-duplicates was trained on.

    Such a row is among the test rows themselves, or was set aside since, by clean or split: no row of train and val is like one of test.
    """
    if not (model / "trained_on.parquet").is_file():
        raise StageError(
            f"gate: {model} does not say on which rows it was trained (trained_on.parquet), so that nothing can be compared with it fairly."
        )
    learnt = files.read_table(model / "trained_on.parquet")["id"].to_pylist()
    columns = ["id", *near_duplicates.find_content_columns(test, modality)]
    tables = [test]
    for path in (
        folder / "split" / "rejects.parquet",
        *sorted((folder / "clean" / "rejects.parquet").glob("*.parquet")),
    ):
        gone = files.read_table(path) if path.is_file() else test.slice(0, 0)
        if set(columns) <= set(gone.column_names):
            tables.append(gone.filter(mask_learnt_rows(gone, learnt)))
    was = np.concatenate(
        [mask_learnt_rows(table, learnt).to_numpy(zero_copy_only=False) for table in tables]
    )
    if was.any():
        ids = [name for table in tables for name in table["id"].to_pylist()]
        content = [
            value
            for table in tables
            for value in near_duplicates.read_contents(table.select(columns), modality)
        ]
        # Of rows that are alike, those that were learnt stay.
        splits = ["test" if is_learnt else "train" for is_learnt in was]
        was[list(leakage.find_leaking_rows(ids, content, splits).reasons)] = True
    return ~was[: test.num_rows]


def mask_learnt_rows(table: pa.Table, learnt: list[bytes]) -> pa.Array:
    listed = set(learnt)
    return pa.array(
        [hashing.hash_row_id(str(name)) in listed for name in table["id"].to_pylist()], pa.bool_()
    )
