"""Images: a folder per class, or MNIST's IDX format (LeCun, Cortes and Burges 1998).

A row holds the bytes of an image's file; an image in an IDX file becomes a PNG.
"""

import io
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.core.errors import StageError
from tasks.recipe.ingest import ImagesSource
from tasks.sources import image_folders
from tasks.sources.base import RowBatch, SourcePartition, build_local_partition
from tasks.sources.formats import file_content
from tasks.sources.formats.file_content import FileContent
from tasks.storage import hashing

IMAGE_SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.string())])
IDX_UNSIGNED_BYTE = 8  # IDX's code for unsigned bytes, the only type that images and labels use
ID_STEP = 1_000_000  # between the first ids of two pairs of IDX files
GZIP_MAGIC_NUMBER = b"\x1f\x8b"


def iter_partitions(source: ImagesSource) -> Iterator[SourcePartition]:
    """Yield each pair of IDX files, or else each folder of images."""
    if not source.pairs:
        assert isinstance(source.path, str)
        yield from image_folders.iter_partitions(Path(source.path), source.levels)
    for number, (images, labels) in enumerate(source.pairs):
        yield build_idx_partition(Path(images), Path(labels), number * ID_STEP)


def build_idx_partition(images: Path, labels: Path, first_id: int) -> SourcePartition:
    """Return the part for a pair of IDX files."""
    for key, path in (("path", images), ("labels", labels)):
        if not path.is_file():
            raise StageError(
                f"ingest.{key}: {path} does not exist: put the file there or correct the path."
            )
    return build_local_partition(
        str(images),
        partial(hash_files, images, labels),
        partial(read_idx_pair, images, labels, first_id),
    )


def hash_files(*paths: Path) -> str:
    """Hash the names and contents of several files."""
    return hashing.hash_json([[str(path), hashing.sha256(path)] for path in paths])


def read_idx_pair(images: Path, labels: Path, first_id: int) -> Iterator[RowBatch]:
    """Read a pair of IDX files.

    Args:
        images: Pixels of shape [rows, height, width].
        labels: Numbers of shape [rows].
        first_id: The id of the first row; ids are counted.
    """
    pixels = read_idx_array(images, 3)
    numbers = read_idx_array(labels, 1)
    if len(pixels) != len(numbers):
        raise StageError(
            f"{images} has {len(pixels)} images, but {labels} has {len(numbers)} labels: they do "
            "not belong together."
        )
    rows = []
    for row_id, (image, label) in enumerate(zip(pixels, numbers, strict=True), first_id):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        rows.append({"id": f"{row_id:06d}", "image": buffer.getvalue(), "label": str(label)})
    yield RowBatch(str(images), pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA))


def read_idx_array(path: Path, n_dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Raises:
        StageError: It has another type or number of dimensions, or is cut off.
    """
    data = read_idx_bytes(path)
    if data[:4] != bytes([0, 0, IDX_UNSIGNED_BYTE, n_dimensions]):
        raise StageError(
            f"{path} is not an IDX file of unsigned bytes with {n_dimensions} dimension(s): it "
            f"begins with {data[:4].hex() or 'nothing'}."
        )
    header_bytes = 4 + 4 * n_dimensions
    shape: tuple[int, ...] = (0,)
    if len(data) >= header_bytes:
        shape = struct.unpack(f">{n_dimensions}I", data[4:header_bytes])
    expected_bytes = header_bytes + int(np.prod(shape, dtype=np.uint64))
    if len(data) != expected_bytes:
        raise StageError(
            f"{path} has {len(data):,} bytes where its header, shape {shape}, promises "
            f"{expected_bytes:,}: copy it again."
        )
    return np.frombuffer(data, np.uint8, offset=header_bytes).reshape(shape)


def read_idx_bytes(path: Path) -> bytes:
    """Read a file that may be gzipped, whatever its name says."""
    file = FileContent(str(path), path)
    if file.read_beginning(2) == GZIP_MAGIC_NUMBER:
        file = FileContent(str(path), path, "gzip")
    if file.compression:
        file_content.check_compression(file)
    return file.read()
