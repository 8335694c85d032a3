"""The review queue: rows that a person has to look at, as a table (CSV) and as Label Studio's tasks. label.answers reads both back."""

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import modalities
from tasks.recipe.defaults import CONTENT_COLUMN
from tasks.recipe.recipe import Recipe
from tasks.reports import html_pages
from tasks.storage import files


def write_review_queue(
    folder: Path,
    recipe: Recipe,
    rows: pa.Table,
    why: list[str],
    guesses: list[str],
    classes: list[str],
) -> None:
    """review.csv, whose last column is for the answer; review.labelstudio.json to import, and review.labelstudio.xml, the labelling configuration.

    For each row: why it is there, and what its label may be ('' where nothing says).
    """
    shown = ["id", *(["text"] if CONTENT_COLUMN[recipe.modality] == "text" else [])]
    cells = (
        [*row, ""]
        for row in zip(*(rows[name].to_pylist() for name in shown), why, guesses, strict=True)
    )
    files.write_csv(
        folder / "review.csv", [[*shown, "why", "guess", "label"], *cells], "\r\n"
    )  # so that it quotes a cell that holds either
    kind = "image" if CONTENT_COLUMN[recipe.modality] == "image" else "text"
    about = zip(
        rows["id"].to_pylist(),
        why,
        guesses,
        map(format_content, modalities.extract_inputs(recipe, rows, allow_missing=True)),
        strict=True,
    )
    tasks = [
        {"data": {"row": name, "why": reason, kind: seen}, "predictions": build_prediction(guess)}
        for name, reason, guess, seen in about
    ]
    files.write_json(folder / "review.labelstudio.json", tasks)
    config = html_pages.TEMPLATES.get_template("labelling.xml").render(
        kind=kind, problem=recipe.problem, classes=classes
    )
    files.write_text(folder / "review.labelstudio.xml", config)


def build_prediction(guess: str) -> list[dict[str, Any]]:
    """The guess as a prediction, which Label Studio shows as the choice already made."""
    result = {
        "from_name": "label",
        "to_name": "content",
        "type": "choices",
        "value": {"choices": [guess]},
    }
    return [{"model_version": "millrace", "result": [result]}] if guess else []


def format_content(cell: Any) -> str:
    """A row's content as Label Studio shows it: text, a table's cells as lines, or an image inside the file, since no server holds it."""
    if isinstance(cell, bytes):
        kind = "png" if cell.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(cell).decode()}"
    return (
        "\n".join(f"{name}: {value}" for name, value in cell.items())
        if isinstance(cell, dict)
        else cell or ""
    )
