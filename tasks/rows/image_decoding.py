"""Decoding of images, the same wherever they are read."""

import io
import struct
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps

from tasks.core.errors import StageError

ResizeMethod = Literal["pad", "crop", "stretch"]

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
# What Pillow raises for bytes that are no image, or a dangerous one.
DAMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    NotImplementedError,
    struct.error,
    Image.DecompressionBombError,
)
# Pillow's modes.
EIGHT_BIT_GREY_MODES = {"1", "L"}
DEEP_GREY_MODES = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}
GREY_MODES = EIGHT_BIT_GREY_MODES | DEEP_GREY_MODES
ALPHA_MODES = {"LA", "La", "PA", "RGBA", "RGBa"}
# What makes the image upright, by EXIF's orientation; 1 is upright.
TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS_ORIENTATIONS = {5, 6, 7, 8}
UPRIGHT = 1
MAX_8_BIT = 255
# What every browser shows, by how the bytes begin.
BROWSER_TYPES = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"RIFF": "webp",
}
MAX_16_BIT = 65535


def decode_image(data: bytes) -> Image.Image:
    """Decode an image to 8 bits: grey (L) or RGB, upright, its transparent pixels white.

    Raises:
        StageError: The range of the image's numbers is unknown.
        Exception: What Pillow raises if it cannot read the image.
    """
    with Image.open(io.BytesIO(data)) as file:
        file.load()
        image: Image.Image = file
        transpose = TRANSPOSE_BY_ORIENTATION.get(read_orientation(image))
        if is_transparent(image):
            image = composite_on_white(image)
        elif image.mode in DEEP_GREY_MODES:
            image = scale_to_8_bits(image)
        image = image.convert("L" if image.mode in GREY_MODES else "RGB")
        return image if transpose is None else image.transpose(transpose)


def is_transparent(image: Image.Image) -> bool:
    """Tell whether an image has an alpha channel or a transparent colour in its palette."""
    return image.mode in ALPHA_MODES or (image.mode == "P" and "transparency" in image.info)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return an opened image's width and height once it is upright, without decoding it."""
    width, height = image.size
    # Pillow turns a TIFF by itself.
    is_sideways = image.format != "TIFF" and read_orientation(image) in SIDEWAYS_ORIENTATIONS
    return (height, width) if is_sideways else (width, height)


def read_orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 (upright) if EXIF is missing or damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return UPRIGHT
    return orientation if isinstance(orientation, int) else UPRIGHT


def composite_on_white(image: Image.Image) -> Image.Image:
    """Draw an image with transparent pixels on a white background."""
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale whole numbers of 16 bits, or fractions from 0 to 1, to levels from 0 to 255.

    Pillow keeps the high byte of each colour of 16 bits, so grey is treated alike. Fractions with
    values above 1 are taken as levels from 0 to 255.

    Raises:
        StageError: The numbers are outside these ranges, or not numbers.
    """
    pixels = np.asarray(image)
    low, high = (pixels.min(), pixels.max()) if pixels.size else (0, 0)
    max_value = MAX_8_BIT if image.mode == "F" else MAX_16_BIT
    is_in_range = low >= 0 and high <= max_value  # False for NaN
    if not is_in_range:
        raise StageError(
            f"an image of {image.mode} numbers from {low} to {high}, but only 0 to {max_value} "
            "can be read: save it with 8 or 16 bits per channel."
        )
    if image.mode != "F":
        return Image.fromarray((pixels >> 8).astype(np.uint8))
    levels = pixels * MAX_8_BIT if high <= 1 else pixels
    return Image.fromarray(np.rint(levels).astype(np.uint8))


def resize_image(image: Image.Image, height: int, width: int, how: ResizeMethod) -> Image.Image:
    """Bring a decoded image to a size.

    Args:
        image: Grey or RGB.
        height: In pixels.
        width: In pixels.
        how: `pad` keeps the whole image and fills the rest with the median colour of its border,
            `crop` fills the size and cuts off what is beside the middle, `stretch` changes the
            shape.
    """
    if image.size == (width, height):
        return image
    if how == "stretch":
        return image.resize((width, height), Image.Resampling.BICUBIC)
    if how == "crop":
        return ImageOps.fit(image, (width, height), Image.Resampling.BICUBIC)
    scale = min(height / image.height, width / image.width)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    padded = Image.new(image.mode, (width, height), find_border_colour(image))
    place = ((width - inner[0]) // 2, (height - inner[1]) // 2)
    padded.paste(image.resize(inner, Image.Resampling.BICUBIC), place)
    return padded


def find_border_colour(image: Image.Image) -> int | tuple[int, ...]:
    """Return the median colour of the outermost pixels."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    median = np.median(border, axis=0).astype(int).tolist()
    return tuple(median) if isinstance(median, list) else int(median)


def encode_png(image: Image.Image) -> bytes:
    """Encode an image without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def encode_for_browser(data: bytes) -> tuple[str, bytes]:
    """Return the media type and the bytes of an image that a browser shows.

    One that browsers do not know, such as a TIFF, becomes a PNG; what is no image stays.
    """
    for magic_number, kind in BROWSER_TYPES.items():
        if data.startswith(magic_number):
            return f"image/{kind}", data
    try:
        image = decode_image(data)
    except (StageError, *DAMAGE_ERRORS):
        return "image/png", data
    return "image/png", encode_png(image)


def describe_image(data: bytes | None) -> str | None:
    """Describe the size and the mode of an image."""
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return f"{image.format}, {image.width}x{image.height} pixels, {image.mode}"
    except DAMAGE_ERRORS:
        return f"{len(data)} bytes"
