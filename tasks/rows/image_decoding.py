"""Encoded images, decoded in one way wherever they are looked at."""

import io
import struct

import numpy as np
from PIL import ExifTags, Image

from tasks.core.errors import StageError

GREY_MODES = {
    "1",
    "L",
    "I;16",
    "I;16L",
    "I;16B",
    "I;16N",
    "I",
    "F",
}  # Pillow's modes of one channel
ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF's orientation → what makes the image upright
SIDEWAYS_ORIENTATIONS = {5, 6, 7, 8}


def decode_image(data: bytes) -> Image.Image:
    """Decode an image to 8 bits: grey (L) or RGB, upright, its transparent pixels white.

    Raises Failure where the image's numbers have no known range, else what Pillow raises.
    """
    with Image.open(io.BytesIO(data)) as file:
        file.load()
        image: Image.Image = file
        turn = TRANSPOSE_BY_ORIENTATION.get(read_orientation(image))
        if image.mode in ALPHA_MODES or (image.mode == "P" and "transparency" in image.info):
            image = composite_on_white(image)
        elif image.mode in GREY_MODES - {"1", "L"}:
            image = scale_to_8_bits(image)
        image = image.convert("L" if image.mode in GREY_MODES else "RGB")
        return image.transpose(turn) if turn is not None else image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of an opened image once it is upright; reads little of it."""
    width, height = image.size
    # Pillow turns a TIFF by itself.
    sideways = image.format != "TIFF" and read_orientation(image) in SIDEWAYS_ORIENTATIONS
    return (height, width) if sideways else (width, height)


def read_orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 (upright) where EXIF is missing or damaged."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1
    return found if isinstance(found, int) else 1


def composite_on_white(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale whole numbers of 16 bits, or fractions from 0 to 1, to levels from 0 to 255.

    Pillow keeps the high byte of each colour of 16 bits; grey is treated alike. Fractions that go
    beyond 1 are taken for levels from 0 to 255.
    """
    numbers = np.asarray(image)
    low, high = (numbers.min(), numbers.max()) if numbers.size else (0, 0)
    most = 255 if image.mode == "F" else 65535
    if not (low >= 0 and high <= most):  # not a number fails too
        told = f"an image of {image.mode} numbers from {low} to {high}, where 0 to {most} are read"
        raise StageError(f"{told}: save it with 8 or 16 bits a channel.")
    if image.mode != "F":
        return Image.fromarray((numbers >> 8).astype(np.uint8))
    levels = numbers * 255 if high <= 1 else numbers
    return Image.fromarray(np.rint(levels).astype(np.uint8))
