"""What people said: files of labels by row, as CSV or as Label Studio exports them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.label import Label
from tasks.rows import label_values
from tasks.storage import files


def load_annotations(section: Label, problem: str = "classification") -> dict[str, str]:
    """Row → label, from all files of label.answers. Two different answers for a row are a mistake, whoever gave them."""
    found: dict[str, tuple[str, Path]] = {}
    for path in map(
        Path, [section.answers] if isinstance(section.answers, str) else section.answers
    ):
        said = (
            read_label_studio(path, problem)
            if path.suffix == ".json"
            else read_csv_labels(path, "id", "label", "label.answers")
        )
        for name, label in said.items():
            label = (
                label_values.format_label(
                    problem, label_values.parse_labels(problem, [label], [f"{path}: {name}"])[0]
                )
                or ""
            )
            for one in (
                label_values.assign_strata(problem, [label])[0]
                if section.classes is not None
                else []
            ):
                if section.classes is not None and one not in section.classes:
                    near = suggest_nearest(one, section.classes)
                    raise StageError(
                        f"{path}: {name!r} has the label {one!r}, which is not among label.classes{near}: correct it, or add it to the list."
                    )
            before, where = found.setdefault(name, (label, path))
            if before != label:
                raise StageError(
                    f"{path}: {name!r} has the label {label!r}, but {before!r} in {where}: keep one."
                )
    return {name: label for name, (label, _) in found.items()}


def read_csv_labels(path: Path, key: str, value: str, setting: str) -> dict[str, str]:
    """The columns `key` and `value`. A row without a value is no answer."""
    rows = files.read_csv(path, (key, value), f"correct {setting}")
    return collect_consistent_labels(
        path, ((row[key], row[value].strip()) for row in rows if (row[value] or "").strip())
    )


def read_label_studio(path: Path, problem: str = "classification") -> dict[str, str]:
    """A project's export, full (JSON) or short (JSON-MIN). A task without an annotation, or with cancelled ones alone, is no answer."""
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise StageError(
            f"{path} is not JSON ({error}): export the project from Label Studio as JSON or JSON-MIN."
        ) from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise StageError(
            f"{path} is not a list of tasks: export the project from Label Studio as JSON or JSON-MIN."
        )
    return collect_consistent_labels(
        path,
        (
            answer
            for number, task in enumerate(tasks)
            for answer in parse_task(path, number, task, problem)
        ),
    )


def parse_task(
    path: Path, number: int, task: dict[str, Any], problem: str
) -> Iterator[tuple[str, str]]:
    full = isinstance(task.get("data"), dict)
    # The short export puts the task's own number over the data's `id`; therefore the queue says `row`.
    name = task["data"].get("row", task["data"].get("id")) if full else task.get("row")
    if name is None:
        raise StageError(
            f"{path}: task {task.get('id', number)} does not say its row: import labelled/review.labelstudio.json, and export that project."
        )
    if full:
        given = [
            extract_choices(item.get("result") or [])
            for item in task.get("annotations") or []
            if not item.get("was_cancelled")
        ]
    else:
        label = task.get("label")
        choices = (
            label.get("choices", [])
            if isinstance(label, dict)
            else [str(label)]
            if isinstance(label, (str, int, float))
            else []
        )
        given = [choices] if label is not None or task.get("annotation_id") is not None else []
    for choices in given:
        if (
            problem == "multilabel"
            and choices
            and all(isinstance(choice, str) for choice in choices)
        ):
            choices = ["|".join(sorted(choices))]
        if len(choices) != 1 or not isinstance(choices[0], str):
            told = f"{path}: {name!r} has an annotation with {len(choices) or 'no'} choices of `label`, not one"
            raise StageError(f"{told}: correct it in Label Studio and export again.")
        yield str(name), choices[0].strip()


def extract_choices(results: list[Any]) -> list[Any]:
    """The choices under the name that the queue's labelling configuration gives them."""
    values = [result.get("value", {}) for result in results if result.get("from_name") == "label"]
    return [
        choice
        for value in values
        for choice in value.get("choices", [str(value["number"])] if "number" in value else [])
    ]


def collect_consistent_labels(path: Path, answers: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, label in answers:
        if found.setdefault(name, label) != label:
            raise StageError(
                f"{path}: {name!r} has the labels {found[name]!r} and {label!r}: keep one."
            )
    return found
