"""The rows that a base is pretrained on: all texts that are not held out for val and test."""

from dataclasses import dataclass

import pyarrow as pa

from tasks.core.errors import StageError
from tasks.rows import leakage, near_duplicates
from tasks.storage import files
from tasks.storage.layout import StagePaths


@dataclass(frozen=True)
class Corpus:
    """The rows to train and to measure on, and how many others there are.

    Attributes:
        train: The training rows, with and without a label.
        val: The rows of val; the training rows if val is empty.
        rows_in: The number of rows before any are left out.
        held_out: The number of rows that are in val or test.
        like_held_out: The number of other rows that are like one in val or test.
    """

    train: pa.Table
    val: pa.Table
    rows_in: int
    held_out: int
    like_held_out: int


def load_corpus(paths: StagePaths, modality: str) -> Corpus:
    """Read the rows that went into `label`, without those held out and those like one of them.

    Raises:
        StageError: No row is left.
    """
    table = files.read_table([paths.labelled.rows, paths.labelled.rejects]).sort_by("id")
    val = files.read_table(paths.split.val)
    ids = table["id"].to_pylist()
    split_of_id = read_held_out_ids(paths)
    split_of_row = [split_of_id.get(row_id, "train") for row_id in ids]
    contents = near_duplicates.read_contents(table, modality)
    leaking = leakage.find_leaking_rows(ids, contents, split_of_row).reasons
    is_kept = [split == "train" and row not in leaking for row, split in enumerate(split_of_row)]
    train = table.filter(pa.array(is_kept, pa.bool_()))
    if not train.num_rows:
        raise StageError(
            f"pretrain: none of the {table.num_rows} rows is left that is not in val or test or "
            "like one there: lower split.val and split.test."
        )
    return Corpus(
        train=train,
        val=val if val.num_rows else train,
        rows_in=table.num_rows,
        held_out=len(ids) - split_of_row.count("train"),
        like_held_out=[split_of_row[row] for row in leaking].count("train"),
    )


def read_held_out_ids(paths: StagePaths) -> dict[str, str]:
    """Return the split, val or test, of each row that is held out."""
    split_of_id: dict[str, str] = {}
    for split in ("val", "test"):
        ids = files.read_table(paths.split.table(split))["id"].to_pylist()
        split_of_id |= dict.fromkeys(ids, split)
    return split_of_id
