"""Corpus."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.core.errors import StageError
from tasks.rows import leakage, near_duplicates
from tasks.storage import files

CORPUS_FILES = (
    "labelled/rows.parquet",
    "labelled/rejects.parquet",
    "split/val.parquet",
    "split/test.parquet",
)


def load_corpus(source: Path, modality: str) -> tuple[pa.Table, pa.Table, dict[str, Any]]:
    """The rows to train on, those to measure on, and how many there are of each and were left out."""
    table = files.read_table([source / name for name in CORPUS_FILES[:2]]).sort_by("id")
    val, test = (files.read_table(source / name) for name in CORPUS_FILES[2:])
    side = dict.fromkeys(val["id"].to_pylist(), "val") | dict.fromkeys(
        test["id"].to_pylist(), "test"
    )
    ids = table["id"].to_pylist()
    placed = [side.get(name, "train") for name in ids]
    contents = near_duplicates.read_contents(table, modality)
    lost = leakage.find_leaking_rows(ids, contents, placed).reasons
    kept = [place == "train" and row not in lost for row, place in enumerate(placed)]
    train = table.filter(pa.array(kept, pa.bool_()))
    if not train.num_rows:
        raise StageError(
            f"pretrain: none of the {table.num_rows} rows is left that is not in val or test or like one there: lower split.val and split.test."
        )
    alike = sum(placed[row] == "train" for row in lost)
    about = {
        "rows_in": table.num_rows,
        "rows": train.num_rows,
        "held_out": len(ids) - placed.count("train"),
        "like_held_out": alike,
    }
    return train, val if val.num_rows else train, about
