"""Images: a folder per class, or MNIST's IDX format (LeCun, Cortes and Burges 1998).

Every image becomes the bytes of a PNG or JPEG file.
"""

import io
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tasks.core import errors
from tasks.core.errors import StageError
from tasks.recipe.ingest import ImagesSource
from tasks.sources.base import BrokenRow, RowBatch, SourcePartition, build_local_partition
from tasks.sources.formats import file_content
from tasks.sources.formats.file_content import FileContent
from tasks.storage import hashing

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}
IMAGE_FORMATS = ("PNG", "JPEG")
IMAGE_SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.string())])
IDX_UNSIGNED_BYTE = 8  # IDX's code for unsigned bytes, the only type that images and labels use
ID_STEP = 1_000_000  # between the first ids of two pairs of IDX files
GZIP_MAGIC_NUMBER = b"\x1f\x8b"


def iter_partitions(source: ImagesSource) -> Iterator[SourcePartition]:
    """Yield each pair of IDX files, or else each folder of a class."""
    if source.pairs:
        for number, (images, labels) in enumerate(source.pairs):
            yield build_idx_partition(Path(images), Path(labels), number * ID_STEP)
        return
    assert isinstance(source.path, str)
    for folder, paths in list_class_images(Path(source.path)).items():
        yield build_local_partition(
            str(folder), partial(hash_files, *paths), partial(read_class_folder, folder, paths)
        )


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


def list_class_images(root: Path) -> dict[Path, list[Path]]:
    """Return the images of each class by its folder, both in order of name.

    Raises:
        StageError: There is no folder, or one without an image.
    """
    entries = list(root.iterdir()) if root.is_dir() else []
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    if not folders:
        raise StageError(
            f"ingest.path: {root} holds no folders: put the images of each class into a folder "
            f"with its name, such as {root}/cat/1.png."
        )
    images = {folder: list_images(folder) for folder in sorted(folders)}
    for folder, paths in images.items():
        if not paths:
            raise StageError(
                f"ingest.path: {folder} holds no PNG or JPEG file: add images, or remove the "
                "folder."
            )
    return images


def list_images(folder: Path) -> list[Path]:
    """Return the images anywhere below a folder, in order of name."""
    paths = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(path for path in paths if not path.is_dir())


def read_class_folder(folder: Path, paths: list[Path]) -> Iterator[RowBatch]:
    """Read the images of a class; the name of the folder is their label."""
    rows = []
    broken = []
    for path in paths:
        data = path.read_bytes()
        problem = explain_unreadable(data)
        if problem:
            broken.append(BrokenRow(str(path), problem))
        else:
            row_id = path.relative_to(folder.parent).as_posix()
            rows.append({"id": row_id, "image": data, "label": folder.name})
    yield RowBatch(str(folder), pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA), broken)


def explain_unreadable(data: bytes) -> str | None:
    """Return why bytes are no image, decoded to the last pixel; None if they are one."""
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            image.load()
    except UnidentifiedImageError:
        # Its own words name a position in memory, which differs from run to run.
        return "not a readable PNG or JPEG image (it begins like neither)"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"not a readable PNG or JPEG image ({errors.first_line(error)})"
    return None


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
