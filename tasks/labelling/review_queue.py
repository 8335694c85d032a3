"""The review queue: rows for a person to label, as a table (CSV) and as tasks for Label Studio.

The recipe's `label.answers` reads both back.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import modalities
from tasks.labelling.resolve_labels import Doubt
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.rows import image_decoding
from tasks.storage import files
from tasks.storage.layout import LabelledFolder

# With these line ends the CSV writer quotes a cell that holds either character.
LINE_END = "\r\n"
MODEL_VERSION = "millrace"  # that Label Studio shows beside a guess


@dataclass(frozen=True)
class ReviewItem:
    """A row for a person to label."""

    row_id: str
    content: Any  # as the model gets it
    reason: str
    guess: str  # the label that it may have, or ''


def build_items(recipe: Recipe, rows: pa.Table, doubts: Sequence[Doubt]) -> list[ReviewItem]:
    """Put rows, each with its doubt, into the queue."""
    contents = modalities.extract_inputs(recipe, rows, allow_missing=True)
    return [
        ReviewItem(row_id, content, doubt.reason, doubt.guess)
        for row_id, content, doubt in zip(rows["id"].to_pylist(), contents, doubts, strict=True)
    ]


def write_review_queue(
    folder: LabelledFolder, recipe: Recipe, items: Sequence[ReviewItem], classes: Sequence[str]
) -> None:
    """Write the queue as CSV and for Label Studio: its tasks and its labelling interface."""
    write_csv(folder.review_queue, recipe, items)
    kind = "image" if CONTENT_COLUMN[recipe.modality] == "image" else "text"
    files.write_json(folder.label_studio_tasks, [build_task(item, kind) for item in items])
    template = html_pages.TEMPLATES.get_template("label_studio.xml")
    interface = template.render(kind=kind, problem=recipe.problem, classes=classes)
    files.write_text(folder.label_studio_interface, interface)


def write_csv(path: Path, recipe: Recipe, items: Sequence[ReviewItem]) -> None:
    """Write the queue as a table; a person fills in its last column."""
    has_text = CONTENT_COLUMN[recipe.modality] == "text"
    header = ["id", *(["text"] if has_text else []), "reason", "guess", "label"]
    lines = [header]
    for item in items:
        text = [extract_text(item.content)] if has_text else []
        lines.append([item.row_id, *text, item.reason, item.guess, ""])
    files.write_csv(path, lines, LINE_END)


def extract_text(content: Any) -> Any:
    """Return a row's text, also if it comes with a prompt."""
    return content["text"] if isinstance(content, dict) else content


def build_task(item: ReviewItem, kind: str) -> dict[str, Any]:
    """Build Label Studio's task for a row.

    Args:
        item: The row.
        kind: The key under which the interface finds the content: image or text.
    """
    data = {"row": item.row_id, "reason": item.reason, kind: format_content(item.content)}
    return {"data": data, "predictions": build_predictions(item.guess)}


def build_predictions(guess: str) -> list[dict[str, Any]]:
    """Build the prediction that Label Studio shows as a choice already made."""
    if not guess:
        return []
    choice = {
        "from_name": "label",
        "to_name": "content",
        "type": "choices",
        "value": {"choices": [guess]},
    }
    return [{"model_version": MODEL_VERSION, "result": [choice]}]


def format_content(content: Any) -> str:
    """Write a row's content for Label Studio: text, cells as lines, or an image as a data URL.

    The image is inside the file because no server holds it.
    """
    if isinstance(content, bytes):
        kind, shown = image_decoding.encode_for_browser(content)
        return f"data:{kind};base64,{base64.b64encode(shown).decode()}"
    if isinstance(content, dict):
        return "\n".join(f"{name}: {value}" for name, value in content.items())
    return content or ""
