"""Rules for images, and which of them are nearly the same."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.cleaning.rule import Reasons, Rule

ALIKE = 0.99  # correlation of two thumbnails; different digits by one hand reach 0.98
THUMBNAIL = (16, 16)
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises for what is no image


def unreadable(table: pa.Table) -> Reasons:
    """Images that do not decode, or whose size differs from that of the first readable one."""
    reasons: Reasons = []
    shape: tuple[Any, ...] | None = None
    for data in table["image"].to_pylist():
        try:
            image = decoded(data)
        except BROKEN as error:
            reasons.append(f"not a readable image: {type(error).__name__}")
            continue
        found = (*image.size, image.mode)
        shape = shape or found
        reasons.append(None if found == shape else f"size and mode {found} where others have {shape}")
    return reasons


def size(table: pa.Table, min: list[int] | None, max: list[int] | None, exact: list[int] | None) -> Reasons:
    """Images whose width or height is not allowed."""
    low, high = exact or min or [1, 1], exact or max or [1 << 31, 1 << 31]
    allowed = (
        f"exactly {exact[0]}x{exact[1]}" if exact else " and ".join(f"at {word} {pair[0]}x{pair[1]}" for word, pair in (("least", min), ("most", max)) if pair)
    )
    reasons: Reasons = []
    for data in table["image"].to_pylist():
        try:
            with Image.open(io.BytesIO(data or b"")) as image:
                found = image.size
        except BROKEN as error:
            reasons.append(f"not a readable image: {type(error).__name__}")
            continue
        fits = all(least <= side <= most for least, side, most in zip(low, found, high, strict=True))
        reasons.append(None if fits else f"{found[0]}x{found[1]} pixels; allowed are {allowed}")
    return reasons


def near_pairs(images: Sequence[bytes | None], distance: int) -> list[tuple[int, int, float]]:
    """All pairs (i, j, correlation) with i < j whose perceptual hashes (Zauner 2010) differ in at most `distance` of 64 bits, and whose thumbnails agree.

    Candidates share one of distance + 1 pieces of the hash (multi-index hashing, Norouzi, Punjani and Fleet 2012). A small drawing is more than its hash,
    so that each is verified. Images that cannot be read are like none.
    """
    import imagehash

    rows, hashes, thumbnails = [], [], []
    for row, data in enumerate(images):
        try:
            image = decoded(data)
        except BROKEN:
            continue
        rows.append(row)
        hashes.append(np.packbits(imagehash.phash(image).hash).view(">u8")[0])
        thumbnails.append(np.asarray(image.convert("RGB").resize(THUMBNAIL)).ravel())
    codes = np.array(hashes, np.uint64)
    candidates: set[tuple[int, int]] = set()
    edges = np.linspace(0, 64, distance + 2).astype(int)
    for start, end in zip(edges, edges[1:], strict=False):
        piece = (codes >> np.uint64(start)) & np.uint64((1 << int(end - start)) - 1)
        order = np.argsort(piece, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1):
            for position, one in enumerate(bucket[:-1].tolist()):
                others = bucket[position + 1 :]
                near = others[np.bitwise_count(codes[others] ^ codes[one]) <= distance]
                candidates.update((one, other) for other in near.tolist())
    found = [(i, j, correlation(thumbnails[i], thumbnails[j])) for i, j in sorted(candidates)]
    return [(rows[i], rows[j], alike) for i, j, alike in found if alike >= ALIKE]


def correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Pearson's, between the pixels of two thumbnails; 0 where one is blank."""
    a, b = (pixels - pixels.mean(dtype=np.float32) for pixels in (one, other))
    return float(a @ b) / max(float(np.sqrt(a @ a) * np.sqrt(b @ b)), 1e-6)


def decoded(data: bytes | None) -> Any:
    """The image, read to its last pixel. Raises one of BROKEN."""
    image = Image.open(io.BytesIO(data or b""))
    image.load()
    return image


RULES = {"unreadable": Rule("filter", unreadable, whole=True), "size": Rule("filter", size)}
