"""Rendering."""

import base64
import io
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from tasks.modalities import image
from tasks.reports import html_pages

SIDE, CELLS, LONG = (
    64,
    8,
    160,
)  # pixels of a picture's side; cells of a row that changed; characters


def picture(pixels: Any) -> Markup:
    """An image of shape (channels, height, width), which lies in the page itself."""
    made, buffer = (
        Image.fromarray(np.asarray(pixels, np.uint8).transpose(1, 2, 0).squeeze()),
        io.BytesIO(),
    )
    made.thumbnail((SIDE, SIDE))
    made.save(buffer, "PNG", optimize=True)
    return Markup('<img alt="" src="data:image/png;base64,{}">').format(
        base64.b64encode(buffer.getvalue()).decode()
    )


def shown(row: Any) -> Markup:
    return (
        picture(image.pixels([row])[0])
        if isinstance(row, bytes)
        else escape(html_pages.written(row)[:LONG] + "…" * (len(html_pages.written(row)) > LONG))
    )


def pair(before: Any, after: Any) -> tuple[Markup, Markup]:
    """A row before and after a change, with what differs marked; of a table's row a few of the cells that differ."""
    if isinstance(before, dict):
        names = [name for name in before if before[name] != after[name]][:CELLS]
        before, after = ({name: row[name] for name in names} for row in (before, after))
    return (
        (shown(before), shown(after))
        if isinstance(before, bytes)
        else html_pages.differences(html_pages.written(before), html_pages.written(after))
    )
