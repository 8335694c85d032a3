"""Split: divide rows into train, val and test, with similar rows always in the same split.

    python -m tasks.split support-desk

A row's split is chosen by the hash of its content or group, by its time, or by what the source says
of it, so it depends on the row alone and never changes when other rows come or go; equal contents
share a split. If
near-duplicates are in different splits, those that are evaluated stay, and the others are written
to split/rejects.parquet.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tasks.contracts.split_report import SplitReport, TimeReport
from tasks.core import notices
from tasks.core.errors import StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.rows import (
    assignment,
    dropped_rows,
    label_values,
    leakage,
    near_duplicates,
    predefined_split,
    rejected_rows,
    stratification,
)
from tasks.rows.assignment import TimeBoundaries
from tasks.rows.leakage import LeakingRows
from tasks.storage import files, layout
from tasks.storage.layout import StagePaths

FOLD_COLUMN = "fold"


def split(recipe_name: str) -> None:
    """Split the labelled rows of a recipe."""
    run(resolved.read_resolved_recipe(recipe_name), StagePaths.of_recipe(recipe_name))


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Split the rows in `paths.labelled` and write `paths.split`.

    Raises:
        StageError: The rows cannot be split as the recipe says, too many are dropped, or a class
            could not be learned or evaluated.
    """
    table = files.read_table(paths.labelled.rows)
    divided = divide_rows(recipe, table)
    tables = divided.tables()
    n_rows = sum(part.num_rows for part in tables.values())
    rejects = paths.split.rejects
    by_rule = rejected_rows.write_rejects(rejects, divided.rejects, table)
    print(dropped_rows.describe_counts("split", table.num_rows, n_rows, by_rule), flush=True)
    dropped_rows.check_max_dropped("split", table.num_rows, by_rule, recipe.max_dropped, rejects)
    strata = label_values.assign_strata(recipe.problem, divided.rows["label"].to_pylist())
    classes = divided.count_classes(strata)
    total = sum(classes.values(), Counter[str]())
    if recipe.columns.label:
        all_classes = sorted(set[str]().union(*strata))
        stratification.require_learnable_split(classes, total, all_classes, recipe.problem)
    for name, part in tables.items():
        files.write_table(paths.split.table(name), part)
    notices.print_warnings(divided.warnings)
    SplitReport(
        rows_in=table.num_rows,
        rows=n_rows,
        rejects=sum(by_rule.values()),
        by_rule=by_rule,
        warnings=divided.warnings,
        rows_by_split={name: part.num_rows for name, part in tables.items()},
        clusters=divided.leaking.n_clusters,
        time=describe_boundaries(recipe.split.time, divided.boundaries),
        classes=classes,
        stratification={
            name: stratification.compare_class_shares(counts, total)
            for name, counts in classes.items()
        },
        folds=count_folds(tables["train"]) if recipe.split.folds else None,
    ).write(paths.split.report)


@dataclass(frozen=True)
class DividedRows:
    """The rows with their splits, and those that are in none."""

    rows: pa.Table
    split_of_row: list[str]
    leaking: LeakingRows  # rows that are dropped
    rejects: list[pa.Table]
    boundaries: TimeBoundaries | None = None  # of a split by time
    warnings: list[str] = field(default_factory=list)

    @property
    def has_folds(self) -> bool:
        """Whether the rows have folds."""
        return FOLD_COLUMN in self.rows.column_names

    def tables(self) -> dict[str, pa.Table]:
        """Return the rows of each split."""
        return {name: self.table(name) for name in layout.SPLITS}

    def table(self, name: str) -> pa.Table:
        """Return the rows of one split; only those of train have folds."""
        is_member = [
            split == name and row not in self.leaking.reasons
            for row, split in enumerate(self.split_of_row)
        ]
        rows = self.rows.filter(pa.array(is_member, pa.bool_()))
        has_folds = self.has_folds and name != "train"
        return rows.drop_columns([FOLD_COLUMN]) if has_folds else rows

    def count_classes(self, strata: list[list[str]]) -> dict[str, Counter[str]]:
        """Count, by split, the rows of each class.

        Args:
            strata: The classes of each row.
        """
        counts = {name: Counter[str]() for name in layout.SPLITS}
        for row, split_name in enumerate(self.split_of_row):
            if row not in self.leaking.reasons:
                counts[split_name].update(strata[row])
        return counts


def divide_rows(recipe: Recipe, table: pa.Table) -> DividedRows:
    """Choose the split of each row, and drop rows that would leak from one into another."""
    config = recipe.split
    if config.folds and FOLD_COLUMN in table.column_names:
        raise StageError(
            "split.folds: the data has a column 'fold' already, which the folds would replace: "
            "rename it in the source, or remove split.folds."
        )
    placed = place_rows(recipe, table)
    rows = placed.rows
    leaking = leakage.find_leaking_rows(
        rows["id"].to_pylist(), placed.contents, placed.split_of_row
    )
    if config.folds:
        folds = assignment.assign_folds(placed.keys, leaking.pairs, config)
        rows = rows.append_column(FOLD_COLUMN, pa.array(folds, pa.int32()))
    return DividedRows(
        rows,
        placed.split_of_row,
        leaking,
        [*placed.rejects, reject_leaking_rows(rows, leaking)],
        placed.boundaries,
        placed.warnings,
    )


@dataclass(frozen=True)
class PlacedRows:
    """The rows with the split that each was placed in, before any are compared.

    Attributes:
        rows: The rows that are in a split.
        contents: The content of each.
        keys: What is hashed of each: its group or its content.
        split_of_row: The split of each.
        rejects: The rows that are in none.
        boundaries: Of a split by time.
        warnings: What people should know.
    """

    rows: pa.Table
    contents: list[Any]
    keys: list[bytes]
    split_of_row: list[str]
    rejects: list[pa.Table]
    boundaries: TimeBoundaries | None = None
    warnings: list[str] = field(default_factory=list)


def place_rows(recipe: Recipe, table: pa.Table) -> PlacedRows:
    """Choose the split of each row: by its time, by what the source says, or by its hash."""
    config = recipe.split
    if config.time:
        by_time = assignment.split_by_time(table, config)
        contents = near_duplicates.read_contents(by_time.rows, recipe.modality)
        keys = assignment.build_group_keys(by_time.rows, contents, config)
        return PlacedRows(
            by_time.rows,
            contents,
            keys,
            by_time.split_of_row,
            [by_time.rejects],
            by_time.boundaries,
        )
    predefined = predefined_split.read_parts(table, config)
    rows = table.filter(predefined.is_known) if predefined else table
    contents = near_duplicates.read_contents(rows, recipe.modality)
    keys = assignment.build_group_keys(rows, contents, config)
    if predefined is None:
        return PlacedRows(rows, contents, keys, assignment.assign_splits(keys, config), [])
    known_parts = [part for part in predefined.parts if part is not None]
    completed = predefined_split.complete_parts(known_parts, keys, config)
    return PlacedRows(
        rows,
        contents,
        keys,
        completed.split_of_row,
        [predefined.reject_others(table)],
        warnings=predefined_split.describe_cuts(completed.cut, config),
    )


def reject_leaking_rows(rows: pa.Table, leaking: LeakingRows) -> pa.Table:
    """Reject the rows that are like a row of another split, each with that row."""
    numbers = sorted(leaking.reasons)
    reasons = pa.array([leaking.reasons[row] for row in numbers], pa.string())
    return rejected_rows.build_rejects(
        rows.take(pa.array(numbers, pa.int64())), "split", "near-duplicate on another side", reasons
    )


def describe_boundaries(column: str | None, boundaries: TimeBoundaries | None) -> TimeReport | None:
    """Report the times at which val and test begin, if the split is by time."""
    if column is None or boundaries is None:
        return None
    note = None if boundaries.are_given else assignment.MOVING_BOUNDARIES_NOTE
    return TimeReport(
        column=column, val_from=boundaries.val_from, test_from=boundaries.test_from, note=note
    )


def count_folds(train: pa.Table) -> dict[int, int]:
    """Count the rows of train by fold."""
    return dict(sorted(Counter(train[FOLD_COLUMN].to_pylist()).items()))


if __name__ == "__main__":
    main(split)
