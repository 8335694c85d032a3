"""How rows are shown in a report: a text, a small picture, or the cells of a table."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from tasks import page
from tasks.modalities.image import pixels

SIDE = 64  # pixels, past which a picture is made smaller
CELLS = 8  # of a row that changed
LONG = 300  # characters


def picture(image: NDArray[np.uint8]) -> Markup:
    """An image of shape (channels, height, width), which lies in the page itself."""
    from PIL import Image

    made, buffer = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)), io.BytesIO()
    made.thumbnail((SIDE, SIDE))
    made.save(buffer, "PNG", optimize=True)
    return Markup('<img alt="" src="data:image/png;base64,{}">').format(base64.b64encode(buffer.getvalue()).decode())


def written(row: Any) -> str:
    if isinstance(row, dict):
        return ", ".join(f"{name} {'–' if cell is None else page.shown(cell)}" for name, cell in row.items())
    return str(row)


def shown(row: Any) -> Markup:
    if isinstance(row, bytes):
        return picture(pixels([row])[0])
    text = written(row)
    return escape(text[:LONG] + "…" * (len(text) > LONG))


def pair(before: Any, after: Any) -> tuple[Markup, Markup]:
    """A row before and after a change, with what differs marked; of a table's row a few of the cells that differ."""
    if isinstance(before, bytes):
        return shown(before), shown(after)
    if isinstance(before, dict):
        names = [name for name in before if before[name] != after[name]][:CELLS]
        before, after = ({name: row[name] for name in names} for row in (before, after))
    return page.differences(written(before), written(after))


def coloured(parts: Sequence[tuple[str, float]]) -> Markup:
    """Pieces of a text, each on a ground that says how much it counts: for (above 0) or against, the deepest for the largest."""
    most = max((abs(value) for _, value in parts), default=0.0) or 1.0
    span = Markup('<span style="background: rgba(var(--{}), {:.2f})">{}</span>')
    return Markup("").join(span.format("fill" if value > 0 else "cut", 0.7 * abs(value) / most, text) if value else escape(text) for text, value in parts)
