"""Rules for images, and which of them are nearly the same."""

import io
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.core.errors import StageError
from tasks.rows import image_decoding, near_duplicates

MIN_CORRELATION = 0.99  # correlation of two thumbnails; different digits by one hand reach 0.98
THUMBNAIL_SIZE = (16, 16)
DAMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # Pillow's for no image


def try_decode(data: bytes | None) -> tuple[Image.Image | None, str | None]:
    """Return the image as a model sees it, or why there is none."""
    try:
        return image_decoding.decode_image(data or b""), None
    except StageError as failure:
        return None, str(failure)
    except DAMAGE_ERRORS as error:
        return None, f"not a readable image: {type(error).__name__}"


def reject_unreadable(table: pa.Table) -> list[str | None]:
    """Images that do not decode, or whose size differs from that of most."""
    found = [
        ((*image.size, image.mode) if image else None, reason)
        for image, reason in map(try_decode, table["image"].to_pylist())
    ]
    usual, count = (
        Counter(shape for shape, _ in found if shape).most_common(1)[0]
        if any(shape for shape, _ in found)
        else (None, 0)
    )
    return [
        reason or (None if shape == usual else f"size and mode {shape} where {count} have {usual}")
        for shape, reason in found
    ]


def reject_size(
    table: pa.Table, min: list[int] | None, max: list[int] | None, exact: list[int] | None
) -> list[str | None]:
    """Images whose width or height is not allowed."""
    bounds = [
        (word, pair)
        for word, pair in (("exactly", exact), ("at least", min), ("at most", max))
        if pair
    ]
    allowed = " and ".join(f"{word} {pair[0]}x{pair[1]}" for word, pair in bounds)
    low, high = np.array(exact or min or [1, 1]), np.array(exact or max or [1 << 31, 1 << 31])
    reasons: list[str | None] = []
    for data in table["image"].to_pylist():
        try:
            with Image.open(io.BytesIO(data or b"")) as image:
                width, height = image_decoding.upright_size(image)
        except DAMAGE_ERRORS as error:
            reasons.append(f"not a readable image: {type(error).__name__}")
            continue
        fits = ((low <= (width, height)) & ((width, height) <= high)).all()
        reason = None if fits else f"{width}x{height} pixels; allowed are {allowed}"
        reasons.append(reason)
    return reasons


def find_near_pairs(images: Sequence[bytes | None], distance: int) -> list[tuple[int, int, float]]:
    """All pairs (i, j, correlation) with i < j whose perceptual hashes (Zauner 2010) differ in at most `distance` of 64 bits, and whose thumbnails agree.

    Candidates share one of distance + 1 pieces of the hash (multi-index hashing, Norouzi, Punjani and Fleet 2012). A small drawing is more than its hash,
    so that each is verified. Images that cannot be read are like none.
    """
    import imagehash

    rows, hashes, thumbnails = [], [], []
    for row, data in enumerate(images):
        image, _ = try_decode(data)
        if image:
            rows.append(row)
            hashes.append(np.packbits(imagehash.phash(image).hash).view(">u8")[0])
            thumbnails.append(np.asarray(image.convert("RGB").resize(THUMBNAIL_SIZE)).ravel())
    codes, edges = np.array(hashes, np.uint64), np.linspace(0, 64, distance + 2).astype(np.uint64)
    pieces = np.stack(
        [codes << start >> (start + np.uint64(64) - end) for start, end in pairwise(edges)], axis=1
    )
    candidates: set[tuple[int, int]] = set()
    for bucket in near_duplicates.group_by_bucket(pieces):
        for position, one in enumerate(bucket.tolist()):
            others = bucket[position + 1 :]
            candidates.update(
                (one, other)
                for other in others[
                    np.bitwise_count(codes[others] ^ codes[one]) <= distance
                ].tolist()
            )
    found = [(i, j, correlate(thumbnails[i], thumbnails[j])) for i, j in sorted(candidates)]
    return [(rows[i], rows[j], alike) for i, j, alike in found if alike >= MIN_CORRELATION]


def correlate(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Pearson's, between the pixels of two thumbnails; 0 where one is blank."""
    a, b = (pixels - pixels.mean(dtype=np.float32) for pixels in (one, other))
    return float(a @ b) / max(float(np.sqrt(a @ a) * np.sqrt(b @ b)), 1e-6)
