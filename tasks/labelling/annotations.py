"""Annotations: labels that people gave, from CSV files or from exports of Label Studio."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.label import Label
from tasks.rows import label_values
from tasks.storage import files

LABEL_CONTROL = "label"  # the name of the choices in the queue's labelling interface
EXPORT_ADVICE = "export the project from Label Studio as JSON or JSON-MIN."

Task = dict[str, Any]  # as Label Studio exports it


def load_annotations(config: Label, problem: str = "classification") -> dict[str, str]:
    """Read all files of label.answers.

    Returns:
        The label of each annotated row, by its id.

    Raises:
        StageError: A file is unreadable, has a label that is not allowed, or two files have
            different labels for a row.
    """
    paths = [config.answers] if isinstance(config.answers, str) else config.answers
    labels: dict[str, str] = {}
    source_of_row: dict[str, Path] = {}
    for path in map(Path, paths):
        for row_id, text in read_annotations(path, problem).items():
            label = normalize_label(text, problem, f"{path}: {row_id}")
            check_classes(label, config.classes, problem, f"{path}: {row_id!r}")
            if labels.setdefault(row_id, label) != label:
                raise StageError(
                    f"{path}: {row_id!r} has the label {label!r}, but {labels[row_id]!r} in "
                    f"{source_of_row[row_id]}: keep one."
                )
            source_of_row.setdefault(row_id, path)
    return labels


def read_annotations(path: Path, problem: str) -> dict[str, str]:
    """Read one file: an export of Label Studio if it is JSON, else CSV."""
    if path.suffix == ".json":
        return read_label_studio(path, problem)
    return read_csv_labels(path, "id", "label", "label.answers")


def normalize_label(text: str, problem: str, place: str) -> str:
    """Write a label as equal labels are written everywhere."""
    [label] = label_values.parse_labels(problem, [text], [place])
    return label_values.format_label(problem, label) or ""


def check_classes(label: str, classes: list[str] | None, problem: str, place: str) -> None:
    """Require that a label is among those that the recipe lists, if it lists any."""
    if classes is None:
        return
    for name in label_values.assign_strata(problem, [label])[0]:
        if name not in classes:
            raise StageError(
                f"{place} has the label {name!r}, which is not among label.classes"
                f"{suggest_nearest(name, classes)}: correct it, or add it to the list."
            )


def read_csv_labels(path: Path, key: str, value: str, setting: str) -> dict[str, str]:
    """Read the columns `key` and `value` of a CSV file; a row without a value is skipped."""
    labels = []
    for row in files.read_csv(path, (key, value), f"correct {setting}"):
        label = (row[value] or "").strip()
        if label:
            labels.append((row[key], label))
    return collect_consistent_labels(path, labels)


def read_label_studio(path: Path, problem: str = "classification") -> dict[str, str]:
    """Read a project's export, full (JSON) or short (JSON-MIN).

    A task without an annotation, or with cancelled ones only, is skipped.

    Raises:
        StageError: The file is no such export, or an annotation is not exactly one label.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise StageError(f"{path} is not JSON ({error}): {EXPORT_ADVICE}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise StageError(f"{path} is not a list of tasks: {EXPORT_ADVICE}")
    return collect_consistent_labels(path, parse_tasks(path, tasks, problem))


def parse_tasks(path: Path, tasks: list[Task], problem: str) -> Iterator[tuple[str, str]]:
    """Yield the row and label of each annotation."""
    for number, task in enumerate(tasks):
        row_id = find_row_id(path, number, task)
        for choices in list_annotations(task):
            yield row_id, parse_choices(choices, problem, f"{path}: {row_id!r}")


def is_full_export(task: Task) -> bool:
    """Tell whether a task is of a full export, which has the row's data under `data`."""
    return isinstance(task.get("data"), dict)


def find_row_id(path: Path, number: int, task: Task) -> str:
    """Return the id of a task's row.

    The short export writes the task's own number over the data's `id`, so the queue has `row`.
    """
    if is_full_export(task):
        row_id = task["data"].get("row", task["data"].get("id"))
    else:
        row_id = task.get("row")
    if row_id is None:
        raise StageError(
            f"{path}: task {task.get('id', number)} does not name its row: import "
            "labelled/review.labelstudio.json, and export that project."
        )
    return str(row_id)


def list_annotations(task: Task) -> list[list[Any]]:
    """List the choices of each annotation of a task."""
    if is_full_export(task):
        return [
            extract_choices(annotation.get("result") or [])
            for annotation in task.get("annotations") or []
            if not annotation.get("was_cancelled")
        ]
    label = task.get(LABEL_CONTROL)
    if label is None and task.get("annotation_id") is None:
        return []
    if isinstance(label, dict):
        return [label.get("choices", [])]
    if isinstance(label, str | int | float):
        return [[str(label)]]
    return [[]]


def extract_choices(results: list[Task]) -> list[Any]:
    """List an annotation's choices, or its number, of the interface that the queue comes with."""
    choices: list[Any] = []
    for result in results:
        if result.get("from_name") != LABEL_CONTROL:
            continue
        value = result.get("value", {})
        if "choices" in value:
            choices += value["choices"]
        elif "number" in value:
            choices.append(str(value["number"]))
    return choices


def parse_choices(choices: list[Any], problem: str, place: str) -> str:
    """Return the label that an annotation's choices mean.

    Raises:
        StageError: They are not exactly one label.
    """
    are_names = all(isinstance(choice, str) for choice in choices)
    if problem == "multilabel" and choices and are_names:
        choices = [label_values.LABEL_SEPARATOR.join(sorted(choices))]
    if len(choices) != 1 or not are_names:
        raise StageError(
            f"{place} has an annotation with {len(choices) or 'no'} choices of `label`, not one: "
            "correct it in Label Studio and export again."
        )
    return str(choices[0]).strip()


def collect_consistent_labels(path: Path, labels: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Collect the label of each row.

    Raises:
        StageError: A row has two different labels.
    """
    label_of_row: dict[str, str] = {}
    for row_id, label in labels:
        if label_of_row.setdefault(row_id, label) != label:
            raise StageError(
                f"{path}: {row_id!r} has the labels {label_of_row[row_id]!r} and {label!r}: "
                "keep one."
            )
    return label_of_row
