"""Images as a source: folders, one for each class, and pairs of IDX files."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.core.errors import StageError
from tasks.modalities.image import decode_images
from tasks.recipe.ingest import ImagesSource
from tasks.sources import list_partition_versions
from tests import tiny
from tests.conftest import ROOT, read_batches

MNIST = ROOT.parent / "shared" / "data" / "mnist"
PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def encode_idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def write_folders(here: Path) -> ImagesSource:
    for name, form, label in (
        ("1.png", "PNG", "cat"),
        ("2.JPG", "JPEG", "cat"),
        ("1.png", "PNG", "dog"),
    ):
        (here / "pets" / label).mkdir(parents=True, exist_ok=True)
        (here / "pets" / label / name).write_bytes(tiny.encode_image(PICTURES[0], form))
    return ImagesSource(kind="images", path="pets")


def test_a_folder_per_class_labels_its_images(here: Path) -> None:
    tables = [part.table for part in read_batches(write_folders(here))]
    rows = pa.concat_tables(tables).to_pylist()
    assert [(row["id"], row["label"]) for row in rows] == [
        ("cat/1.png", "cat"),
        ("cat/2.JPG", "cat"),
        ("dog/1.png", "dog"),
    ]
    assert (decode_images([rows[0]["image"]])[0, 0] == PICTURES[0]).all()


def test_a_new_image_changes_the_fingerprint_of_its_class_alone(here: Path) -> None:
    source = write_folders(here)
    before = list_partition_versions(source)
    (here / "pets" / "dog" / "2.png").write_bytes(tiny.encode_image(PICTURES[1]))
    after = list_partition_versions(source)
    assert [name for name in before if before[name] != after[name]] == ["pets/dog"]


def test_an_unreadable_file_is_set_aside_with_its_path(here: Path) -> None:
    source = write_folders(here)
    (here / "pets" / "cat" / "3.png").write_bytes(b"not an image")
    (here / "pets" / "cat" / "4.png").write_bytes(tiny.encode_image(PICTURES[1])[:-30])
    parts = {part.name: part for part in read_batches(source)}
    assert [path for path, _ in parts["pets/cat"].broken] == ["pets/cat/3.png", "pets/cat/4.png"]
    assert [why for _, why in parts["pets/cat"].broken] == [
        "not a readable image (it begins like none of PNG, JPEG, WebP, BMP, TIFF and GIF)",
        "not a readable image (image file is truncated)",
    ]
    assert parts["pets/cat"].table.num_rows == 2


@pytest.mark.parametrize("packed", [gzip.compress, bytes])
def test_a_pair_of_idx_files_gives_the_same_pixels(here: Path, packed: type[bytes]) -> None:
    (here / "images").write_bytes(packed(encode_idx(PICTURES)))
    (here / "labels").write_bytes(packed(encode_idx(np.array([7, 0, 7], np.uint8))))
    [part] = read_batches(ImagesSource(kind="images", path="images", labels="labels"))
    assert part.table["label"].to_pylist() == ["7", "0", "7"]
    assert (decode_images(part.table["image"].to_pylist())[:, 0] == PICTURES).all()


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (
            encode_idx(PICTURES),
            encode_idx(np.zeros(2, np.uint8)),
            "images has 3 images, but labels has 2 labels: they do not belong together",
        ),
        (
            encode_idx(PICTURES)[:-1],
            encode_idx(np.zeros(3, np.uint8)),
            r"images has 75 bytes where its header, shape \(3, 4, 5\), promises 76: copy it again",
        ),
        (
            gzip.compress(encode_idx(PICTURES), mtime=0)[:-9],
            b"",
            "images is cut off or not gzip",
        ),  # a time would be in the name of the test
        (
            b"GIF89a",
            b"",
            r"images is not an IDX file of unsigned bytes with 3 dimension\(s\): it begins with "
            "47494638",
        ),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, b"", "images has 16 bytes where its header"),
    ],
)
def test_idx_files_that_do_not_add_up_are_refused(
    here: Path, images: bytes, labels: bytes, sentence: str
) -> None:
    (here / "images").write_bytes(images)
    (here / "labels").write_bytes(labels)
    with pytest.raises(StageError, match=sentence):
        list(read_batches(ImagesSource(kind="images", path="images", labels="labels")))


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("nowhere", "nowhere holds no folders"), ("bare", "bare/cat holds no image")],
)
def test_a_folder_without_images_is_named(here: Path, path: str, sentence: str) -> None:
    (here / "bare" / "cat").mkdir(parents=True)
    with pytest.raises(StageError, match=sentence):
        list(read_batches(ImagesSource(kind="images", path=path)))


def test_several_pairs_of_idx_files_have_ids_that_count_on(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_bytes(encode_idx(PICTURES))
        (here / f"{name}.labels").write_bytes(encode_idx(np.array([1, 2, 3], np.uint8)))
    source = ImagesSource(kind="images", path=["a", "b"], labels=["a.labels", "b.labels"])
    assert list(list_partition_versions(source)) == ["a", "b"]
    assert [part.table["id"].to_pylist() for part in read_batches(source)] == [
        ["000000", "000001", "000002"],
        ["1000000", "1000001", "1000002"],
    ]


@pytest.mark.parametrize(
    ("path", "labels"), [(["a", "b"], ["a"]), (["a"], None), (["a"], "b"), ([], [])]
)
def test_files_of_images_need_as_many_of_labels(path: list[str], labels: list[str] | None) -> None:
    with pytest.raises(
        ValueError, match="path and labels must be two lists of equal length, or a file each"
    ):
        ImagesSource(kind="images", path=path, labels=labels)


@pytest.mark.skipif(not MNIST.is_dir(), reason="the real MNIST files are not beside the repository")
def test_the_real_mnist_test_set_is_read() -> None:
    [part] = read_batches(
        ImagesSource(
            kind="images",
            path=str(MNIST / "t10k-images-idx3-ubyte.gz"),
            labels=str(MNIST / "t10k-labels-idx1-ubyte.gz"),
        )
    )
    assert part.table.num_rows == 10_000
    assert part.table["label"].to_pylist()[:5] == ["7", "2", "1", "0", "4"]
    assert decode_images(part.table["image"].to_pylist()[:5]).shape == (5, 1, 28, 28)
