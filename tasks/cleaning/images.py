"""Rules for images."""

import io
from typing import Any

import pyarrow as pa

from tasks.cleaning.rule import Reasons, Rule


def unreadable(table: pa.Table) -> Reasons:
    """Images that do not decode, or whose size differs from that of the first readable one."""
    from PIL import Image, UnidentifiedImageError

    reasons: Reasons = []
    shape: tuple[Any, ...] | None = None
    for data in table["image"].to_pylist():
        try:
            with Image.open(io.BytesIO(data or b"")) as image:
                image.load()
                found = (*image.size, image.mode)
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reasons.append(f"not a readable image: {type(error).__name__}")
            continue
        shape = shape or found
        reasons.append(None if found == shape else f"size and mode {found} where others have {shape}")
    return reasons


RULES = {"unreadable": Rule("filter", unreadable, whole=True)}
