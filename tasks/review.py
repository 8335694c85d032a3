"""The review queue: rows that a person has to look at, as a table (CSV) and as Label Studio's tasks. label.answers reads both back."""

import base64
import csv
import io
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from tasks import files, modalities
from tasks.recipe import Recipe


def queued(rows: pa.Table, why: list[str], guesses: list[str]) -> pa.Table:
    """Rows for the queue: why they are there, and what their label may be ('' where nothing says)."""
    return rows.append_column("why", pa.array(why, pa.string())).append_column("guess", pa.array(guesses, pa.string()))


def write(folder: Path, recipe: Recipe, rows: pa.Table, classes: list[str]) -> None:
    """review.csv, whose last column is for the answer; review.labelstudio.json to import and review.labelstudio.xml, the labelling configuration."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ["id", *(["text"] if "text" in rows.column_names else []), "why", "guess"]
    writer.writerow([*names, "label"])
    writer.writerows([*row.values(), ""] for row in rows.select(names).to_pylist())
    files.write_text(folder / "review.csv", buffer.getvalue())
    kind = "image" if recipe.modality == "image" else "text"
    about = zip(*(rows[name].to_pylist() for name in ("id", "why", "guess")), map(shown, modalities.rows(recipe, rows)), strict=True)
    tasks = [{"data": {"row": name, "why": why, kind: content}, "predictions": predicted(guess)} for name, why, guess, content in about]
    files.write_json(folder / "review.labelstudio.json", tasks)
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    files.write_text(
        folder / "review.labelstudio.xml",
        f'<View>\n  <Header value="$why"/>\n  <{kind.title()} name="content" value="${kind}"/>\n'
        f'  <Choices name="label" toName="content" choice="single" required="true">\n{choices}  </Choices>\n</View>\n',
    )


def predicted(guess: str) -> list[dict[str, Any]]:
    """The guess as a prediction, which Label Studio shows as the choice already made."""
    result = {"from_name": "label", "to_name": "content", "type": "choices", "value": {"choices": [guess]}}
    return [{"model_version": "millrace", "result": [result]}] if guess else []


def shown(content: Any) -> str:
    """A row's content as Label Studio shows it: text, a table's cells as lines, or an image inside the file, since no server holds it."""
    if isinstance(content, bytes):
        kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return "\n".join(f"{name}: {value}" for name, value in content.items()) if isinstance(content, dict) else content or ""
