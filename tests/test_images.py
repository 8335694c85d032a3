"""Images from folders and from IDX files; what is no image is set aside or refused."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.modalities.image import pixels
from tasks.recipe import Images
from tasks.sources import fingerprint
from tasks.step import Failure
from tests.conftest import ROOT, partitions

MNIST = ROOT.parent / "shared" / "data" / "mnist"
PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def encoded(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form)
    return buffer.getvalue()


def idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def folders(here: Path) -> Images:
    for name, form, label in (("1.png", "PNG", "cat"), ("2.JPG", "JPEG", "cat"), ("1.png", "PNG", "dog")):
        (here / "pets" / label).mkdir(parents=True, exist_ok=True)
        (here / "pets" / label / name).write_bytes(encoded(PICTURES[0], form))
    return Images(kind="images", path="pets")


def test_a_folder_per_class_gives_each_image_its_label(here: Path) -> None:
    rows = [row for part in partitions(folders(here)) for row in part.table.to_pylist()]
    assert [(row["id"], row["label"]) for row in rows] == [("cat/1.png", "cat"), ("cat/2.JPG", "cat"), ("dog/1.png", "dog")]
    assert (pixels([rows[0]["image"]])[0, 0] == PICTURES[0]).all()


def test_a_new_image_changes_the_fingerprint_of_its_class_alone(here: Path) -> None:
    source = folders(here)
    before = fingerprint(source)
    (here / "pets" / "dog" / "2.png").write_bytes(encoded(PICTURES[1]))
    after = fingerprint(source)
    assert [name for name in before if before[name] != after[name]] == ["pets/dog"]


def test_what_is_no_image_is_set_aside_with_its_path(here: Path) -> None:
    source = folders(here)
    (here / "pets" / "cat" / "3.png").write_bytes(b"not an image")
    (here / "pets" / "cat" / "4.png").write_bytes(encoded(PICTURES[1])[:-30])
    parts = {part.name: part for part in partitions(source)}
    assert [path for path, _ in parts["pets/cat"].broken] == ["pets/cat/3.png", "pets/cat/4.png"]
    assert [why for _, why in parts["pets/cat"].broken] == [
        "not a readable PNG or JPEG image (it begins like neither)",
        "not a readable PNG or JPEG image (image file is truncated)",
    ]
    assert parts["pets/cat"].table.num_rows == 2


@pytest.mark.parametrize("packed", [gzip.compress, bytes])
def test_a_pair_of_idx_files_gives_the_same_pixels(here: Path, packed: type[bytes]) -> None:
    (here / "images").write_bytes(packed(idx(PICTURES)))
    (here / "labels").write_bytes(packed(idx(np.array([7, 0, 7], np.uint8))))
    [part] = partitions(Images(kind="images", path="images", labels="labels"))
    assert part.table["label"].to_pylist() == ["7", "0", "7"]
    assert (pixels(part.table["image"].to_pylist())[:, 0] == PICTURES).all()


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (idx(PICTURES), idx(np.zeros(2, np.uint8)), "images has 3 images, but labels has 2 labels: they do not belong together"),
        (idx(PICTURES)[:-1], idx(np.zeros(3, np.uint8)), r"images has 75 bytes where its header, shape \(3, 4, 5\), promises 76: copy it again"),
        (gzip.compress(idx(PICTURES))[:-9], b"", "images is cut off or not gzip"),
        (b"GIF89a", b"", r"images is not an IDX file of unsigned bytes with 3 dimension\(s\): it begins with 47494638"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, b"", "images has 16 bytes where its header"),
    ],
)
def test_idx_files_that_do_not_add_up_are_refused(here: Path, images: bytes, labels: bytes, sentence: str) -> None:
    (here / "images").write_bytes(images)
    (here / "labels").write_bytes(labels)
    with pytest.raises(Failure, match=sentence):
        list(partitions(Images(kind="images", path="images", labels="labels")))


@pytest.mark.parametrize(("path", "sentence"), [("nowhere", "nowhere holds no folders"), ("bare", "bare/cat holds no PNG or JPEG file")])
def test_a_folder_without_images_is_named(here: Path, path: str, sentence: str) -> None:
    (here / "bare" / "cat").mkdir(parents=True)
    with pytest.raises(Failure, match=sentence):
        list(partitions(Images(kind="images", path=path)))


@pytest.mark.skipif(not MNIST.is_dir(), reason="the real MNIST files are not beside the repository")
def test_the_real_mnist_test_set_is_read() -> None:
    [part] = partitions(Images(kind="images", path=str(MNIST / "t10k-images-idx3-ubyte.gz"), labels=str(MNIST / "t10k-labels-idx1-ubyte.gz")))
    assert part.table.num_rows == 10_000
    assert part.table["label"].to_pylist()[:5] == ["7", "2", "1", "0", "4"]
    assert pixels(part.table["image"].to_pylist()[:5]).shape == (5, 1, 28, 28)
