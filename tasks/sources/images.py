"""Images: a folder per class, or MNIST's IDX format (LeCun, Cortes and Burges 1998). Every image becomes the bytes of a PNG or JPEG file."""

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
from tasks.sources.base import RowBatch, SourcePartition, build_local_partition
from tasks.sources.formats.file_content import FileContent, check_compression
from tasks.storage import hashing

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg"}
IMAGE_FORMATS = ("PNG", "JPEG")
IMAGE_SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.string())])
IDX_UNSIGNED_BYTE = 8  # IDX's code for unsigned bytes, the only type that images and labels use


def iter_partitions(source: ImagesSource) -> Iterator[SourcePartition]:
    for number, pair in enumerate(source.pairs):
        for path, key in zip(pair, ("path", "labels"), strict=True):
            if not Path(path).is_file():
                raise StageError(
                    f"ingest.{key}: {path} does not exist: put the file there or correct the path."
                )
        images, labels = map(Path, pair)
        yield build_local_partition(
            str(images),
            partial(hash_files, images, labels),
            partial(read_idx_pair, images, labels, number * 1_000_000),
        )
    if not source.pairs:
        assert isinstance(source.path, str)
        for folder, paths in list_class_images(Path(source.path)).items():
            yield build_local_partition(
                str(folder), partial(hash_files, *paths), partial(read_class_folder, folder, paths)
            )


def hash_files(*paths: Path) -> str:
    return hashing.hash_json([[str(path), hashing.sha256(path)] for path in paths])


def list_class_images(root: Path) -> dict[Path, list[Path]]:
    """The images of each class, both in order of name."""
    folders = (
        sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        if root.is_dir()
        else []
    )
    if not folders:
        raise StageError(
            f"ingest.path: {root} holds no folders: put the images of each class into a folder with its name, such as {root}/cat/1.png."
        )
    found = {
        folder: sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()
        )
        for folder in folders
    }
    for folder, paths in found.items():
        if not paths:
            raise StageError(
                f"ingest.path: {folder} holds no PNG or JPEG file: add images, or remove the folder."
            )
    return found


def read_class_folder(folder: Path, paths: list[Path]) -> Iterator[RowBatch]:
    rows, broken = [], []
    for path in paths:
        data = path.read_bytes()
        if problem := explain_unreadable(data):
            broken.append((str(path), problem))
        else:
            rows.append(
                {
                    "id": path.relative_to(folder.parent).as_posix(),
                    "image": data,
                    "label": folder.name,
                }
            )
    yield RowBatch(str(folder), pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA), broken)


def explain_unreadable(data: bytes) -> str | None:
    """Why the bytes are no image, decoded to the last pixel; None where they are one."""
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            image.load()
    except (
        UnidentifiedImageError
    ):  # its own words name a place in memory, which is another in each run
        return "not a readable PNG or JPEG image (it begins like neither)"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"not a readable PNG or JPEG image ({errors.first_line(error)})"
    return None


def read_idx_pair(images: Path, labels: Path, first: int) -> Iterator[RowBatch]:
    """A pair of IDX files: images of shape (rows, height, width) and labels of shape (rows,)."""
    pixels, numbers = read_idx_array(images, 3), read_idx_array(labels, 1)
    if len(pixels) != len(numbers):
        raise StageError(
            f"{images} has {len(pixels)} images, but {labels} has {len(numbers)} labels: they do not belong together."
        )
    rows = []
    for index, (image, label) in enumerate(zip(pixels, numbers, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        rows.append({"id": f"{first + index:06d}", "image": buffer.getvalue(), "label": str(label)})
    yield RowBatch(str(images), pa.Table.from_pylist(rows, schema=IMAGE_SCHEMA))


def read_idx_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    file = FileContent(str(path), path)
    if file.read_beginning(2) == b"\x1f\x8b":
        file = FileContent(str(path), path, "gzip")
    if file.compression:
        check_compression(file)
    data = file.read()
    if data[:4] != bytes([0, 0, IDX_UNSIGNED_BYTE, dimensions]):
        raise StageError(
            f"{path} is not an IDX file of unsigned bytes with {dimensions} dimension(s): it begins with {data[:4].hex() or 'nothing'}."
        )
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", data[4:start]) if len(data) >= start else (0,)
    size = int(np.prod(shape, dtype=np.uint64))
    if len(data) != start + size:
        raise StageError(
            f"{path} has {len(data):,} bytes where its header, shape {shape}, promises {start + size:,}: copy it again."
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
