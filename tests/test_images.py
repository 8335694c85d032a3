"""Images from folders and from IDX files; what is no image is set aside or refused."""

import gzip
import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks import modalities
from tasks.modalities.image import Trainer, moved, network, pixels
from tasks.problems.classification import Problem
from tasks.recipe import Augment, Images, Train
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
        (gzip.compress(idx(PICTURES), mtime=0)[:-9], b"", "images is cut off or not gzip"),  # a time would be in the name of the test
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


def test_several_pairs_of_idx_files_have_ids_that_count_on(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_bytes(idx(PICTURES))
        (here / f"{name}.labels").write_bytes(idx(np.array([1, 2, 3], np.uint8)))
    source = Images(kind="images", path=["a", "b"], labels=["a.labels", "b.labels"])
    assert list(fingerprint(source)) == ["a", "b"]
    assert [part.table["id"].to_pylist() for part in partitions(source)] == [["000000", "000001", "000002"], ["1000000", "1000001", "1000002"]]


@pytest.mark.parametrize(("path", "labels"), [(["a", "b"], ["a"]), (["a"], None), (["a"], "b"), ([], [])])
def test_files_of_images_need_as_many_of_labels(path: list[str], labels: list[str] | None) -> None:
    with pytest.raises(ValueError, match="path and labels must be two lists of equal length, or a file each"):
        Images(kind="images", path=path, labels=labels)


def spots() -> torch.Tensor:
    """64 images of one dot off their middle."""
    images = torch.zeros(64, 1, 21, 21)
    images[:, :, 10, 15] = 1
    return images


def middles(images: torch.Tensor) -> torch.Tensor:
    """Where the dots are, from the middle, shape (images, 2): down and right."""
    weights = images[:, 0] / images.sum((1, 2, 3))[:, None, None]
    at = torch.arange(21.0) - 10
    return torch.stack([weights.sum(2) @ at, weights.sum(1) @ at], 1)


@pytest.mark.parametrize(
    ("augment", "down", "right"),
    [
        (Augment(shift=2), (-2, 2), (3, 7)),
        (Augment(rotate=30.0), (-2.6, 2.6), (4.3, 5.1)),
        (Augment(zoom=0.2), (-0.1, 0.1), (4.1, 6.3)),
        (Augment(elastic=0.5), (-2, 2), (3, 7)),
    ],
)
def test_images_move_as_far_as_the_recipe_says_and_each_on_its_own(augment: Augment, down: tuple[float, float], right: tuple[float, float]) -> None:
    places = middles(moved(spots(), augment, torch.Generator().manual_seed(0)))
    for at, (low, high) in zip(places.T, (down, right), strict=True):
        assert low - 0.1 <= at.min()
        assert at.max() <= high + 0.1
    assert places.std(0).max() > 0.3
    again = middles(moved(spots(), augment, torch.Generator().manual_seed(0)))
    assert torch.equal(places, again)


def test_a_distortion_moves_pixels_by_that_much_on_average_and_neighbours_alike() -> None:
    """Seen on ramps, whose pixels say where they were."""
    ramp = torch.arange(28.0).expand(2000, 1, 28, 28)
    change = (moved(ramp, Augment(elastic=0.8), torch.Generator().manual_seed(0)) - ramp)[:, 0, 4:-4, 4:-4]
    assert float(change.square().mean().sqrt()) == pytest.approx(0.8, rel=0.03)
    assert float((change[:, :, 1:] - change[:, :, :-1]).abs().max()) < 0.8


@pytest.mark.parametrize(
    ("shape", "layers", "inputs"), [((1, 8, 8), 4, 64 * 16), ((1, 28, 28), 6, 128 * 49), ((3, 64, 50), 8, 256 * 8 * 7), ((1, 5, 5), 2, 32 * 25)]
)
def test_the_network_is_as_deep_as_the_images_are_large(shape: tuple[int, ...], layers: int, inputs: int) -> None:
    made = network(shape, 3, 0.0, 1.0)
    assert sum(isinstance(module, torch.nn.Conv2d) for module in made.modules()) == layers
    assert made.head.in_features == inputs
    assert made(torch.zeros(2, *shape)).shape == (2, 3)


def test_the_exported_model_says_what_the_network_says(tmp_path: Path) -> None:
    rows = [encoded(np.random.default_rng(seed).integers(0, 256, (12, 9), dtype=np.uint8)) for seed in range(5)]
    trainer = Trainer(Train(), rows, Problem(["a", "b", "c"]))
    about = {"labels": ["a", "b", "c"], "modality": "image", **trainer.export(tmp_path)}
    with torch.no_grad():
        expected = trainer.network.eval()(*trainer.collate(trainer.encode(rows), None)).softmax(1)
    said = modalities.module("image").Predictor(tmp_path, about, 1)(rows)
    assert said == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.skipif(not MNIST.is_dir(), reason="the real MNIST files are not beside the repository")
def test_the_real_mnist_test_set_is_read() -> None:
    [part] = partitions(Images(kind="images", path=str(MNIST / "t10k-images-idx3-ubyte.gz"), labels=str(MNIST / "t10k-labels-idx1-ubyte.gz")))
    assert part.table.num_rows == 10_000
    assert part.table["label"].to_pylist()[:5] == ["7", "2", "1", "0", "4"]
    assert pixels(part.table["image"].to_pylist()[:5]).shape == (5, 1, 28, 28)
