"""The check that no row, nor one like it, is in two splits, whoever wrote the split."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tasks.contracts.check_result import CheckOutcome, CheckResult
from tasks.rows import label_values, leakage, near_duplicates

MAX_EXAMPLES = 5
SPLIT_COLUMN = "__split"  # in memory only

NOT_TEXTS_NOTE = (
    "Near-duplicates across splits are searched for among texts only: "
    "these rows were compared by their exact content."
)


def check_leakage(
    tables: dict[str, pa.Table], modality: str, problem: str = "classification"
) -> tuple[list[CheckOutcome], list[str]]:
    """Check that no row, nor one like it, is in two splits, and that train has every class.

    Args:
        tables: The rows of each split, by its name.
        modality: Says which columns are the content of a row.
        problem: Says what a label is.

    Returns:
        The outcome of each check, and notes on what was not checked.
    """
    rows = concat_splits(tables)
    contents = near_duplicates.read_contents(rows.drop_columns([SPLIT_COLUMN]), modality)
    ids = rows["id"].to_pylist()
    proof = SplitProof(ids, rows[SPLIT_COLUMN].to_pylist())
    equal_ids = leakage.find_equal_pairs(str(row_id).encode() for row_id in ids)
    outcomes = [
        proof.check_pairs("expect_ids_on_one_side", equal_ids, "id"),
        proof.check_pairs(
            "expect_equal_contents_on_one_side", leakage.find_equal_contents(contents), "content"
        ),
    ]
    notes = []
    if not leakage.are_texts(contents):
        notes.append(NOT_TEXTS_NOTE)
    elif len(contents) > leakage.MAX_ROWS_FOR_NEAR_SEARCH:
        notes.append(describe_skipped_search(len(contents)))
    else:
        near_pairs = leakage.find_near_text_pairs(contents)
        outcomes.append(
            proof.check_pairs("expect_near_duplicates_on_one_side", near_pairs, "content")
        )
    missing = find_unlearned_classes(rows, problem)
    outcomes.append(build_outcome("expect_every_class_in_train", missing))
    return outcomes, notes


def concat_splits(tables: dict[str, pa.Table]) -> pa.Table:
    """Join the splits, with a column that names them.

    Rows are sorted by id, as they were when `split` searched for near-duplicates.
    """
    parts = []
    for split, table in tables.items():
        names = pa.array([split] * table.num_rows, pa.string())
        parts.append(table.append_column(SPLIT_COLUMN, names))
    return pa.concat_tables(parts, promote_options="permissive").sort_by("id")


@dataclass(frozen=True)
class SplitProof:
    """The ids and splits of all rows, to check pairs of them."""

    ids: list[Any]
    split_of_row: list[str]

    def check_pairs(self, name: str, pairs: Iterable[tuple[int, int]], column: str) -> CheckOutcome:
        """Check that no pair of rows is in two splits."""
        apart = [(i, j) for i, j in pairs if self.split_of_row[i] != self.split_of_row[j]]
        sentences = [f"{self.describe_row(i)} and {self.describe_row(j)}" for i, j in apart]
        failing = pa.table(
            {
                "id": [self.ids[j] for _, j in apart],
                "column": [column] * len(apart),
                "value": sentences,
            }
        )
        return build_outcome(name, sentences, failing)

    def describe_row(self, row: int) -> str:
        """Return `<id> in <split>`."""
        return f"{self.ids[row]} in {self.split_of_row[row]}"


def find_unlearned_classes(rows: pa.Table, problem: str) -> list[str]:
    """List the classes that no row of train has."""
    if problem == "regression":
        return []
    everywhere: set[str] = set()
    in_train: set[str] = set()
    strata_of_rows = label_values.assign_strata(problem, rows["label"].to_pylist())
    for strata, split in zip(strata_of_rows, rows[SPLIT_COLUMN].to_pylist(), strict=True):
        everywhere.update(strata)
        if split == "train":
            in_train.update(strata)
    return sorted(map(str, everywhere - in_train))


def describe_skipped_search(n_rows: int) -> str:
    """Explain that a set is too large for a second search."""
    return (
        f"Near-duplicates across splits were not searched for again, because {n_rows} rows are "
        f"more than {leakage.MAX_ROWS_FOR_NEAR_SEARCH}. The stage split has removed them."
    )


def build_outcome(name: str, sentences: list[str], failing: pa.Table | None = None) -> CheckOutcome:
    """Return the outcome of a check that holds if there are no sentences."""
    result = CheckResult(
        expectation=name,
        arguments={},
        severity="fail",
        success=not sentences,
        source="split",
        unexpected=len(sentences),
        examples=sentences[:MAX_EXAMPLES],
    )
    return CheckOutcome(result, failing)
