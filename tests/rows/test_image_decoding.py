"""Decoding of images: bit depths, alpha channels and orientation."""

import io

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tasks.cleaning import images
from tasks.core.errors import StageError
from tasks.modalities.image import decode_images
from tasks.rows import image_decoding
from tests import tiny

PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)  # 0, 257, 514 …
CORNERS = ((0, 0), (0, -1), (-1, 0), (-1, -1))
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_8_bit_images_keep_their_pixels(mode: str, form: str) -> None:
    shape = (9, 7) if mode == "L" else (9, 7, 3)
    data = tiny.encode_image(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), form)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        expected = np.asarray(image)
    decoded = decode_images([data])[0]
    assert (decoded == (expected[None] if mode == "L" else expected.transpose(2, 0, 1))).all()


@pytest.mark.parametrize(
    ("image", "form"),
    [
        (Image.fromarray(RAMP), "PNG"),
        (Image.fromarray(RAMP.astype(">u2")), "TIFF"),
        (Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
        (Image.fromarray(LEVELS.astype(np.float32) / 255), "TIFF"),
        (Image.fromarray(LEVELS.astype(np.float32)), "TIFF"),
    ],
    ids=["I;16", "I;16B", "I", "F to 1", "F to 255"],
)
def test_grey_images_of_16_bits_or_floats_are_scaled_to_8_bits(
    image: Image.Image, form: str
) -> None:
    assert (decode_images([tiny.encode_image(image, form)])[0, 0] == LEVELS).all()


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (np.array([[-1, 5]], np.int32), "I numbers from -1 to 5, but only 0 to 65535 can be read"),
        (np.array([[0, 70_000]], np.int32), "I numbers from 0 to 70000"),
        (np.array([[0.5, 256]], np.float32), "F numbers from 0.5 to 256.0, but only 0 to 255 can"),
        (np.array([[0.5, np.nan]], np.float32), "F numbers from nan to nan"),
    ],
)
def test_pixels_out_of_the_known_ranges_are_refused(
    numbers: NDArray[np.generic], sentence: str
) -> None:
    with pytest.raises(StageError, match=f"an image of {sentence}.*save it with 8 or 16 bits"):
        image_decoding.decode_image(tiny.encode_image(Image.fromarray(numbers), "TIFF"))


def draw_stroke(mode: str) -> Image.Image:
    """A black stroke that lies in the alpha channel alone."""
    alpha = Image.new("L", (6, 5))
    alpha.paste(255, (2, 1, 4, 4))
    if mode == "P":
        image = alpha.point(lambda level: level // 255).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.info["transparency"] = bytes([0, 255])
        return image
    image = Image.new(mode, (6, 5))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_the_alpha_channel_is_composited_on_white(mode: str) -> None:
    decoded = decode_images([tiny.encode_image(draw_stroke(mode))])[0]
    expected = np.full((5, 6), 255)
    expected[1:4, 2:4] = 0
    assert decoded.shape == (3, 5, 6)
    assert (decoded == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_an_opaque_image_keeps_its_pixels_whatever_its_mode(mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(colours).convert("L" if mode == "LA" else "RGB").convert(mode)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert (decode_images([tiny.encode_image(image)])[0] == expected).all()


def encode_turned(orientation: int, form: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    corner = Image.new("L", (32, 16))
    corner.paste(255, (0, 0, 16, 8))
    return tiny.encode_image(corner, form, exif=exif)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "shape", "corner"),
    [
        (1, (16, 32), (0, 0)),
        (2, (16, 32), (0, -1)),
        (3, (16, 32), (-1, -1)),
        (4, (16, 32), (-1, 0)),
        (5, (32, 16), (0, 0)),
        (6, (32, 16), (0, -1)),
        (7, (32, 16), (-1, -1)),
        (8, (32, 16), (-1, 0)),
    ],
)
def test_a_photograph_is_turned_upright_by_its_exif(
    form: str, orientation: int, shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    data = encode_turned(orientation, form)
    decoded = decode_images([data])[0, 0]
    assert decoded.shape == shape
    light = [index for index in CORNERS if decoded[index] > 128]
    assert light == [corner]
    with Image.open(io.BytesIO(data)) as image:
        assert image_decoding.upright_size(image) == (shape[1], shape[0])


def test_cleaning_rules_see_images_upright() -> None:
    table = pa.table(
        {"image": [encode_turned(1, "JPEG"), encode_turned(6, "JPEG"), encode_turned(3, "JPEG")]}
    )
    assert images.reject_unreadable(table) == [None, None, None]
    wrong = "16x32 pixels where 2 images have 32x16 pixels"
    assert images.reject_other_sizes(table) == [None, wrong, None]
    reasons = images.reject_size(table, None, None, [32, 16])
    assert reasons == [None, "16x32 pixels; allowed are exactly 32x16", None]


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX"])
def test_a_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    plain = tiny.encode_image(Image.fromarray(PICTURES[0]), "JPEG")
    assert (
        decode_images([tiny.encode_image(Image.fromarray(PICTURES[0]), "JPEG", exif=exif)])
        == decode_images([plain])
    ).all()
