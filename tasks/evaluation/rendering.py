"""How rows and their changes look in the report."""

import base64
import io
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from tasks.modalities import image
from tasks.reports import html_pages

THUMBNAIL_SIDE = 64  # pixels
MAX_CELLS = 8  # of a row of a table
MAX_CHARACTERS = 160


def render_image(pixels: Any) -> Markup:
    """Return an image of shape [channels, height, width] as an <img> that holds its bytes."""
    channels_last = np.asarray(pixels, np.uint8).transpose(1, 2, 0)
    thumbnail = Image.fromarray(channels_last.squeeze())
    thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    thumbnail.save(buffer, "PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img alt="" src="data:image/png;base64,{}">').format(encoded)


def render_row(row: Any) -> Markup:
    """Return a row as markup: an image as such, anything else as text that is cut if long."""
    if isinstance(row, bytes):
        return render_image(image.decode_images([row])[0])
    text = html_pages.format_row(row)
    if len(text) > MAX_CHARACTERS:
        text = f"{text[:MAX_CHARACTERS]}…"
    return escape(text)


def render_difference(before: Any, after: Any) -> tuple[Markup, Markup]:
    """Return a row before and after a change, with the differences marked.

    Of a row of a table, only some of the cells that differ are shown.
    """
    if isinstance(before, bytes):
        return render_row(before), render_row(after)
    if isinstance(before, dict):
        changed = [name for name in before if before[name] != after[name]][:MAX_CELLS]
        before = {name: before[name] for name in changed}
        after = {name: after[name] for name in changed}
    return html_pages.highlight_differences(
        html_pages.format_row(before), html_pages.format_row(after)
    )
