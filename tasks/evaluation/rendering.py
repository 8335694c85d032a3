"""Rendering."""

import base64
import io
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from tasks.modalities import image
from tasks.reports import html_pages

THUMBNAIL_SIDE, MAX_CELLS, MAX_CHARACTERS = (
    64,
    8,
    160,
)  # pixels of a picture's side; cells of a row that changed; characters


def render_image(pixels: Any) -> Markup:
    """An image of shape (channels, height, width), which lies in the page itself."""
    made, buffer = (
        Image.fromarray(np.asarray(pixels, np.uint8).transpose(1, 2, 0).squeeze()),
        io.BytesIO(),
    )
    made.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    made.save(buffer, "PNG", optimize=True)
    return Markup('<img alt="" src="data:image/png;base64,{}">').format(
        base64.b64encode(buffer.getvalue()).decode()
    )


def render_row(row: Any) -> Markup:
    return (
        render_image(image.decode_images([row])[0])
        if isinstance(row, bytes)
        else escape(
            html_pages.format_row(row)[:MAX_CHARACTERS]
            + "…" * (len(html_pages.format_row(row)) > MAX_CHARACTERS)
        )
    )


def render_difference(before: Any, after: Any) -> tuple[Markup, Markup]:
    """A row before and after a change, with what differs marked; of a table's row a few of the cells that differ."""
    if isinstance(before, dict):
        names = [name for name in before if before[name] != after[name]][:MAX_CELLS]
        before, after = ({name: row[name] for name in names} for row in (before, after))
    return (
        (render_row(before), render_row(after))
        if isinstance(before, bytes)
        else html_pages.highlight_differences(
            html_pages.format_row(before), html_pages.format_row(after)
        )
    )
