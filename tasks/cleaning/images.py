"""Rules for images, and the search for images that are nearly the same."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.cleaning import table_cells
from tasks.cleaning.rules import Reasons, RuleOutcome, row_rule, table_rule
from tasks.core.errors import StageError
from tasks.rows import image_decoding, near_duplicates
from tasks.rows.image_decoding import ResizeMethod
from tasks.rows.near_duplicates import NearPair

MIN_CORRELATION = 0.99  # of two thumbnails; different digits by one hand reach 0.98
THUMBNAIL_SIZE = (16, 16)
HASH_BITS = 64
MAX_PIXELS = 1 << 31  # of the width or height, if a recipe names no limit


def try_decode(data: bytes | None) -> tuple[Image.Image | None, str | None]:
    """Return the image as a model sees it, or why it cannot be read."""
    try:
        return image_decoding.decode_image(data or b""), None
    except StageError as failure:
        return None, str(failure)
    except image_decoding.DAMAGE_ERRORS as error:
        return None, describe_damage(error)


def describe_damage(error: BaseException) -> str:
    """Describe why an image cannot be read."""
    return f"not a readable image: {type(error).__name__}"


@row_rule("unreadable")
def reject_unreadable(table: pa.Table) -> Reasons:
    """Reject images that do not decode."""
    return [try_decode(data)[1] for data in table["image"].to_pylist()]


@table_rule("same_size")
def reject_other_sizes(table: pa.Table) -> Reasons:
    """Reject images of another size than most; those that do not decode are of no size."""
    sizes = [read_size(data) for data in table["image"].to_pylist()]
    most_common = Counter(filter(None, sizes)).most_common(1)
    if not most_common:
        return [None] * table.num_rows
    [(usual, count)] = most_common
    wanted = f"{count} images have {show_size(usual)}"
    return [None if size == usual else f"{show_size(size)} where {wanted}" for size in sizes]


def read_size(data: bytes | None) -> tuple[int, int] | None:
    """Return an image's width and height as a model sees it; None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            return image_decoding.upright_size(image)
    except image_decoding.DAMAGE_ERRORS:
        return None


def show_size(size: tuple[int, int] | None) -> str:
    """Write a size as people do."""
    return f"{size[0]}x{size[1]} pixels" if size else "no readable image"


@row_rule("resize")
def resize_images(table: pa.Table, to: list[int], how: ResizeMethod) -> RuleOutcome:
    """Bring images to one size, and reject those that do not decode.

    Args:
        table: The rows.
        to: Height and width in pixels.
        how: What becomes of another shape.
    """
    height, width = to
    resized: list[bytes | None] = []
    reasons: Reasons = []
    for data in table["image"].to_pylist():
        image, reason = try_decode(data)
        reasons.append(reason)
        is_changed = image is not None and image.size != (width, height)
        if image is None or not is_changed:
            resized.append(data)
        else:
            changed = image_decoding.resize_image(image, height, width, how)
            resized.append(image_decoding.encode_png(changed))
    column = pa.array(resized, table["image"].type)
    return RuleOutcome(table_cells.replace_columns(table, {"image": column}), reasons)


@dataclass(frozen=True)
class SizeLimits:
    """The smallest and the largest allowed width and height in pixels."""

    widths: range
    heights: range
    description: str  # such as "at least 32x32 and at most 64x64"

    @classmethod
    def of_rule(
        cls, smallest: Sequence[int] | None, largest: Sequence[int] | None, *, is_exact: bool
    ) -> "SizeLimits":
        """Read the limits of a recipe, each [width, height]."""
        words = []
        if is_exact and smallest:
            words.append(f"exactly {smallest[0]}x{smallest[1]}")
        elif smallest:
            words.append(f"at least {smallest[0]}x{smallest[1]}")
        if largest and not is_exact:
            words.append(f"at most {largest[0]}x{largest[1]}")
        low = smallest or (1, 1)
        high = largest or (MAX_PIXELS, MAX_PIXELS)
        widths = range(low[0], high[0] + 1)
        heights = range(low[1], high[1] + 1)
        return cls(widths, heights, " and ".join(words))

    def allows(self, width: int, height: int) -> bool:
        """Tell whether an image of this size stays."""
        return width in self.widths and height in self.heights


@row_rule("size")
def reject_size(
    table: pa.Table,
    min: list[int] | None,  # noqa: A002
    max: list[int] | None,  # noqa: A002
    exact: list[int] | None,
) -> Reasons:
    """Reject images whose width or height is not allowed; each limit is [width, height]."""
    if exact:
        limits = SizeLimits.of_rule(exact, exact, is_exact=True)
    else:
        limits = SizeLimits.of_rule(min, max, is_exact=False)
    return [check_size(data, limits) for data in table["image"].to_pylist()]


def check_size(data: bytes | None, limits: SizeLimits) -> str | None:
    """Return why an image is rejected, if it is."""
    size = read_size(data)
    if size is None:
        return try_decode(data)[1] or "not a readable image"
    if limits.allows(*size):
        return None
    return f"{show_size(size)}; allowed are {limits.description}"


def find_near_pairs(images: Sequence[bytes | None], distance: int) -> list[NearPair]:
    """Find images that are nearly the same.

    The perceptual hashes (Zauner 2010) of two such images differ in at most `distance` of 64
    bits, and their thumbnails correlate: a small drawing is more than its hash. Images that
    cannot be read are like no other.

    Returns:
        Pairs of positions, each with the correlation.
    """
    import imagehash

    rows = []
    hashes = []
    thumbnails = []
    for row, data in enumerate(images):
        image, _ = try_decode(data)
        if image:
            rows.append(row)
            hashes.append(np.packbits(imagehash.phash(image).hash).view(">u8")[0])
            thumbnails.append(np.asarray(image.convert("RGB").resize(THUMBNAIL_SIZE)).ravel())
    pairs = []
    for i, j in sorted(find_close_hashes(np.array(hashes, np.uint64), distance)):
        correlation = correlate(thumbnails[i], thumbnails[j])
        if correlation >= MIN_CORRELATION:
            pairs.append(NearPair(rows[i], rows[j], correlation))
    return pairs


def find_close_hashes(hashes: NDArray[np.uint64], distance: int) -> set[tuple[int, int]]:
    """Find pairs of hashes that differ in at most `distance` bits.

    They share one of distance + 1 pieces (multi-index hashing, Norouzi, Punjani and Fleet 2012).
    """
    pairs: set[tuple[int, int]] = set()
    for bucket in near_duplicates.group_by_bucket(cut_hashes(hashes, distance + 1)):
        for position, first in enumerate(bucket.tolist()):
            others = bucket[position + 1 :]
            n_bits = np.bitwise_count(hashes[others] ^ hashes[first])
            close = others[n_bits <= distance].tolist()
            pairs.update((first, other) for other in close)
    return pairs


def cut_hashes(hashes: NDArray[np.uint64], n_pieces: int) -> NDArray[np.uint64]:
    """Cut hashes into pieces of nearly equal size. Returns shape [hashes, pieces]."""
    edges = np.linspace(0, HASH_BITS, n_pieces + 1).astype(np.uint64)
    pieces = []
    for start, end in pairwise(edges):
        width = end - start
        pieces.append(hashes << start >> (np.uint64(HASH_BITS) - width))
    return np.stack(pieces, axis=1)


def correlate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Pearson's correlation of the pixels of two thumbnails; 0 if one is blank."""
    a = first - first.mean(dtype=np.float32)
    b = second - second.mean(dtype=np.float32)
    return float(a @ b) / max(float(np.sqrt(a @ a) * np.sqrt(b @ b)), 1e-6)
