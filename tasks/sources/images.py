"""Images: a folder per class, or MNIST's IDX format (LeCun, Cortes and Burges 1998). Every image becomes the bytes of a PNG or JPEG file."""

import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import files
from tasks.recipe import Images
from tasks.sources import Partition
from tasks.sources.content import Content, too_large
from tasks.step import Failure

SUFFIXES = {".png", ".jpg", ".jpeg"}
FORMATS = ("PNG", "JPEG")
BYTES = 8  # IDX's code for unsigned bytes, the only type that images and labels use


def fingerprint(source: Images) -> dict[str, str]:
    if source.pairs:
        return {images: digest([there(images, "path"), there(labels, "labels")]) for images, labels in source.pairs}
    return {str(folder): digest(paths) for folder, paths in classes(source).items()}


def partitions(source: Images, skip: Container[str] = ()) -> Iterator[Partition]:
    for number, (images, labels) in enumerate(source.pairs):
        yield idx(images, labels, number * 1_000_000)
    if source.pairs:
        return
    for folder, paths in classes(source).items():
        if str(folder) in skip:
            continue
        rows: list[dict[str, object]] = []
        broken: list[tuple[str, str]] = []
        for path in paths:
            data = path.read_bytes()
            problem = unreadable(data)
            if problem:
                broken.append((str(path), problem))
            else:
                rows.append({"id": path.relative_to(folder.parent).as_posix(), "image": data, "label": folder.name})
        yield Partition(str(folder), digest(paths), table(rows), broken)


def table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema([("id", pa.string()), ("image", pa.binary()), ("label", pa.string())]))


def there(path: str, key: str) -> Path:
    if not Path(path).is_file():
        raise Failure(f"ingest.{key}: {path} does not exist: put the file there or correct the path.")
    return Path(path)


def classes(source: Images) -> dict[Path, list[Path]]:
    """The images of each class, both in order of name."""
    assert isinstance(source.path, str)
    root = Path(source.path)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")) if root.is_dir() else []
    if not folders:
        raise Failure(f"ingest.path: {root} holds no folders: put the images of each class into a folder with its name, such as {root}/cat/1.png.")
    found = {folder: sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir()) for folder in folders}
    empty = [folder.name for folder, paths in found.items() if not paths]
    if empty:
        raise Failure(f"ingest.path: {root / empty[0]} holds no PNG or JPEG file: add images, or remove the folder.")
    return found


def digest(paths: list[Path]) -> str:
    return hashlib.sha256("\n".join(f"{path} {files.sha256(path)}" for path in paths).encode()).hexdigest()


def unreadable(data: bytes) -> str | None:
    """Why the bytes are no image, decoded to the last pixel; None where they are one."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
    except UnidentifiedImageError:  # its own words name a place in memory, which is another in each run
        return "not a readable PNG or JPEG image (it begins like neither)"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"not a readable PNG or JPEG image ({files.first_line(error)})"
    return None


def idx(images: str, labels: str, first: int) -> Partition:
    """A pair of IDX files: images of shape (rows, height, width) and labels of shape (rows,)."""
    from PIL import Image

    pixels, numbers = array(there(images, "path"), 3), array(there(labels, "labels"), 1)
    if len(pixels) != len(numbers):
        raise Failure(f"{images} has {len(pixels)} images, but {labels} has {len(numbers)} labels: they do not belong together.")
    rows: list[dict[str, object]] = []
    for index, (image, label) in enumerate(zip(pixels, numbers, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        rows.append({"id": f"{first + index:06d}", "image": buffer.getvalue(), "label": str(label)})
    return Partition(images, digest([Path(images), Path(labels)]), table(rows))


def array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        limit = Content(str(path), path).limit()
        try:
            with gzip.open(path) as stream:
                data = stream.read(limit + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Failure(f"{path} is cut off or not gzip ({files.first_line(error)}): copy it again.") from None
        if len(data) > limit:
            raise too_large(Content(str(path), path), limit)
    if len(data) < 4 or data[:4] != bytes([0, 0, BYTES, dimensions]):
        raise Failure(f"{path} is not an IDX file of unsigned bytes with {dimensions} dimension(s): it begins with {data[:4].hex() or 'nothing'}.")
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", data[4:start]) if len(data) >= start else (0,)
    size = int(np.prod(shape, dtype=np.uint64))
    if len(data) != start + size:
        raise Failure(f"{path} has {len(data):,} bytes where its header, shape {shape}, promises {start + size:,}: copy it again.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
