"""The sides of a split: which there are, what a row's side is a hash of, which rows are alike, and the proof that nothing stands on two of them."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from tasks.contracts.check_result import CheckOutcome, CheckResult
from tasks.rows import label_values, near_duplicates

SPLITS = ("test", "val", "train")  # in the order in which a side wins a cluster
SIMILARITY_THRESHOLD = 0.8
MAX_ROWS_FOR_NEAR_SEARCH = (
    200_000  # rows up to which near-duplicates are looked for again once they are gone
)
MAX_EXAMPLES = 5


def find_equal_pairs(keys: Iterable[bytes]) -> list[tuple[int, int]]:
    """For each row whose key was there before, the first row that has it, and the row."""
    first: dict[bytes, int] = {}
    heads = [
        first.setdefault(hashlib.sha256(value).digest(), row) for row, value in enumerate(keys)
    ]
    return [(head, row) for row, head in enumerate(heads) if head != row]


def are_texts(content: Sequence[Any]) -> bool:
    return all(isinstance(value, str | None) for value in content)


def find_near_text_pairs(content: Sequence[Any]) -> list[tuple[int, int]]:
    """Near-duplicate texts. Images and tables are compared by what they hold exactly."""
    if not are_texts(content):
        return []
    return [
        (i, j)
        for i, j, _ in near_duplicates.find_near_pairs(
            [value or "" for value in content], SIMILARITY_THRESHOLD
        )
    ]


def remove_leaking_rows(
    ids: list[Any], content: list[Any], placed: list[str]
) -> tuple[dict[int, str], list[tuple[int, int]], int]:
    """The rows that are like one on a side which goes before theirs, with the reason; the pairs that are alike; and the number of clusters.

    What goes may have hidden a pair from the search, so that it is repeated until it finds nothing, as check_ready will.
    """
    lost: dict[int, str] = {}
    clusters = 0
    while True:
        left = [row for row in range(len(content)) if row not in lost]
        kept = [content[row] for row in left]
        pairs = [
            (left[i], left[j])
            for i, j in (
                *find_equal_pairs(map(near_duplicates.content_key, kept)),
                *find_near_text_pairs(kept),
            )
        ]
        found = near_duplicates.find_clusters(pairs)
        clusters = clusters or len(found)
        more: dict[int, str] = {}
        for members in found:
            winner = min((placed[member] for member in members), key=SPLITS.index)
            head = next(member for member in members if placed[member] == winner)
            more |= {
                member: f"like {ids[head]} in {winner}"
                for member in members
                if placed[member] != winner
            }
        lost |= more
        if not more or len(left) > MAX_ROWS_FOR_NEAR_SEARCH:
            return lost, pairs, clusters


def check_leakage(
    tables: dict[str, pa.Table], modality: str, problem: str = "classification"
) -> tuple[list[CheckOutcome], list[str]]:
    """What must hold for a split, whatever wrote it, as results beside those of the expectations, and notes on what was not looked at."""
    marked = [
        table.append_column("__side", pa.array([side] * table.num_rows, pa.string()))
        for side, table in tables.items()
    ]
    rows = pa.concat_tables(marked, promote_options="permissive").sort_by(
        "id"
    )  # as the split had them when it looked for near-duplicates
    names, places = rows["id"].to_pylist(), rows["__side"].to_pylist()
    content = near_duplicates.read_contents(rows.drop_columns(["__side"]), modality)

    def apart(name: str, pairs: Iterable[tuple[int, int]], column: str) -> CheckOutcome:
        """The result that says so of every pair of rows that stands on two sides."""
        found = [(i, j) for i, j in pairs if places[i] != places[j]]
        told = [f"{names[i]} in {places[i]} and {names[j]} in {places[j]}" for i, j in found]
        return build_outcome(
            name,
            told,
            pa.table(
                {"id": [names[j] for _, j in found], "column": [column] * len(found), "value": told}
            ),
        )

    results = [
        apart(
            "expect_ids_on_one_side", find_equal_pairs(str(name).encode() for name in names), "id"
        )
    ]
    results.append(
        apart(
            "expect_equal_contents_on_one_side",
            find_equal_pairs(map(near_duplicates.content_key, content)),
            "content",
        )
    )
    notes = []
    if not are_texts(content):
        notes.append(
            "Near-duplicates across sides are looked for among texts alone: these rows were compared by exactly what they hold."
        )
    elif len(content) <= MAX_ROWS_FOR_NEAR_SEARCH:
        results.append(
            apart("expect_near_duplicates_on_one_side", find_near_text_pairs(content), "content")
        )
    else:
        notes.append(
            f"Near-duplicates across sides were not looked for again: {len(content)} rows are more than {MAX_ROWS_FOR_NEAR_SEARCH}. The split has set them aside."
        )
    labels = (
        label_values.assign_strata(problem, rows["label"].to_pylist())
        if problem != "regression"
        else []
    )
    learnt = {
        name
        for names, place in zip(labels, places, strict=False)
        if place == "train"
        for name in names
    }
    missing = sorted(map(str, {name for names in labels for name in names} - learnt))
    return [*results, build_outcome("expect_every_class_in_train", missing, None)], notes


def build_outcome(name: str, sentences: list[str], failing: pa.Table | None) -> CheckOutcome:
    """Return the outcome of a check that found what these sentences describe."""
    result = CheckResult(
        expectation=name,
        arguments={},
        severity="fail",
        success=not sentences,
        source="split",
        unexpected=len(sentences),
        examples=sentences[:MAX_EXAMPLES],
        ids=None if failing is None else failing.num_rows,
    )
    return CheckOutcome(result, failing)
