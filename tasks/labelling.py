"""Where labels come from beside the source itself: tables, keyword rules; and which of them look wrong."""

import csv
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
from daft import col

from tasks import modalities
from tasks.mistakes import nearest
from tasks.recipe import Label, Recipe
from tasks.step import Failure

FOLDS = 5


def answers(path: Path, key: str, label: str, setting: str) -> dict[str, str]:
    """The columns `key` and `label` of a CSV file, as a mapping. Rows without a label are no answers; two different ones for a key are a mistake."""
    found: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for name in (key, label):
            if name not in (reader.fieldnames or []):
                raise Failure(f"{path}: there is no column {name!r}; it has {', '.join(reader.fieldnames or ['none'])}: correct {setting}.")
        for row in reader:
            if (row[label] or "").strip() and found.setdefault(row[key], row[label].strip()) != row[label].strip():
                raise Failure(f"{path}: {row[key]!r} has the labels {found[row[key]]!r} and {row[label]!r}: keep one.")
    return found


def by_people(table: pa.Table, section: Label) -> pa.Array:
    """What people answered for each row, or null."""
    said = answers(Path(section.answers), "id", "label", "label.answers") if section.answers else {}
    return pa.array([said.get(name) for name in table["id"].to_pylist()], pa.string())


def by_table(table: pa.Table, section: Label) -> pa.Array:
    """The label that the recipe's table gives for each row's key, or null."""
    if not section.lookup:
        return pa.nulls(table.num_rows, pa.string())
    key = section.lookup.key
    said = answers(Path(section.lookup.file), key, section.lookup.label, "label.lookup")
    if key not in table.column_names:
        raise Failure(f"label.lookup.key: the data has no column {key!r}{nearest(key, table.column_names)}; it has {', '.join(table.column_names)}.")
    return pa.array([said.get(value) for value in table[key].to_pylist()], pa.string())


def by_keywords(table: pa.Table, section: Label) -> tuple[pa.Array, pa.Array]:
    """For each row the label on which all keyword rules that match agree, or null; and whether matching rules disagree."""
    if not section.keywords:
        return pa.nulls(table.num_rows, pa.string()), pa.repeat(False, table.num_rows)
    plan = daft.from_arrow(table)
    for number, rule in enumerate(section.keywords):
        if rule.column not in table.column_names:
            raise Failure(f"label.keywords[{number}].column: the data has no column {rule.column!r}{nearest(rule.column, table.column_names)}.")
        matches = col(rule.column).regexp(f"(?i){rule.pattern}").fill_null(False)
        plan = plan.with_column(f"__{number}", matches)
    votes = plan.select(*(f"__{number}" for number in range(len(section.keywords)))).to_arrow()
    names = [rule.label for rule in section.keywords]
    cast = [{names[number] for number, hit in enumerate(row) if hit} for row in zip(*(column.to_pylist() for column in votes.columns), strict=True)]
    agreed = pa.array([next(iter(found)) if len(found) == 1 else None for found in cast], pa.string())
    return agreed, pa.array([len(found) > 1 for found in cast], pa.bool_())


def suspects(recipe: Recipe, table: pa.Table) -> dict[int, str]:
    """Rows whose label looks wrong, and the label that looks right: confident learning (Northcutt et al. 2021) on out-of-fold predictions of
    the modality's baseline. Labels that people gave are never among them."""
    from cleanlab.filter import find_label_issues
    from sklearn.model_selection import StratifiedKFold

    classes = sorted(set(table["label"].to_pylist()))
    labels = np.array([classes.index(value) for value in table["label"].to_pylist()])
    folds = min(FOLDS, int(np.bincount(labels).min()))
    if folds < 2 or len(classes) < 2:
        rare = [name for name, count in zip(classes, np.bincount(labels), strict=True) if count < 2]
        raise Failure(f"label.errors needs two classes and two rows of each; of {', '.join(rare) or classes[0]} there are fewer: set it to keep, or add rows.")
    rows = modalities.rows(recipe, table)
    fit = modalities.module(recipe.modality).baseline
    probabilities = np.zeros((len(rows), len(classes)))
    for known, held in StratifiedKFold(folds, shuffle=True, random_state=0).split(labels, labels):
        probabilities[held] = fit([rows[index] for index in known], labels[known], [rows[index] for index in held], len(classes))
    found = find_label_issues(labels, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    sources = table["label_source"].to_pylist()
    return {int(index): classes[probabilities[index].argmax()] for index in sorted(found) if sources[index] != "people"}
