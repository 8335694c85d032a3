"""Images from folders and from IDX files; what is no image is set aside or refused."""

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import ExifTags, Image

from tasks.cleaning import images
from tasks.core.errors import StageError
from tasks.modalities.image import (
    ImagePredictor,
    ImageTrainer,
    PixelScale,
    augment_images,
    build_convolutional_network,
    check_contrast,
    decode_images,
)
from tasks.problems.classification import ClassificationProblem
from tasks.recipe.ingest import ImagesSource
from tasks.recipe.train import Augment, Train
from tasks.rows import image_decoding
from tasks.sources import list_partition_versions
from tests import tiny
from tests.conftest import ROOT, read_batches

MNIST = ROOT.parent / "shared" / "data" / "mnist"
PICTURES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def encoded(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form)
    return buffer.getvalue()


def idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def folders(here: Path) -> ImagesSource:
    for name, form, label in (
        ("1.png", "PNG", "cat"),
        ("2.JPG", "JPEG", "cat"),
        ("1.png", "PNG", "dog"),
    ):
        (here / "pets" / label).mkdir(parents=True, exist_ok=True)
        (here / "pets" / label / name).write_bytes(encoded(PICTURES[0], form))
    return ImagesSource(kind="images", path="pets")


def test_a_folder_per_class_gives_each_image_its_label(here: Path) -> None:
    rows = [row for part in read_batches(folders(here)) for row in part.table.to_pylist()]
    assert [(row["id"], row["label"]) for row in rows] == [
        ("cat/1.png", "cat"),
        ("cat/2.JPG", "cat"),
        ("dog/1.png", "dog"),
    ]
    assert (decode_images([rows[0]["image"]])[0, 0] == PICTURES[0]).all()


def test_a_new_image_changes_the_fingerprint_of_its_class_alone(here: Path) -> None:
    source = folders(here)
    before = list_partition_versions(source)
    (here / "pets" / "dog" / "2.png").write_bytes(encoded(PICTURES[1]))
    after = list_partition_versions(source)
    assert [name for name in before if before[name] != after[name]] == ["pets/dog"]


def test_what_is_no_image_is_set_aside_with_its_path(here: Path) -> None:
    source = folders(here)
    (here / "pets" / "cat" / "3.png").write_bytes(b"not an image")
    (here / "pets" / "cat" / "4.png").write_bytes(encoded(PICTURES[1])[:-30])
    parts = {part.name: part for part in read_batches(source)}
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
    [part] = read_batches(ImagesSource(kind="images", path="images", labels="labels"))
    assert part.table["label"].to_pylist() == ["7", "0", "7"]
    assert (decode_images(part.table["image"].to_pylist())[:, 0] == PICTURES).all()


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (
            idx(PICTURES),
            idx(np.zeros(2, np.uint8)),
            "images has 3 images, but labels has 2 labels: they do not belong together",
        ),
        (
            idx(PICTURES)[:-1],
            idx(np.zeros(3, np.uint8)),
            r"images has 75 bytes where its header, shape \(3, 4, 5\), promises 76: copy it again",
        ),
        (
            gzip.compress(idx(PICTURES), mtime=0)[:-9],
            b"",
            "images is cut off or not gzip",
        ),  # a time would be in the name of the test
        (
            b"GIF89a",
            b"",
            r"images is not an IDX file of unsigned bytes with 3 dimension\(s\): it begins with 47494638",
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
    [("nowhere", "nowhere holds no folders"), ("bare", "bare/cat holds no PNG or JPEG file")],
)
def test_a_folder_without_images_is_named(here: Path, path: str, sentence: str) -> None:
    (here / "bare" / "cat").mkdir(parents=True)
    with pytest.raises(StageError, match=sentence):
        list(read_batches(ImagesSource(kind="images", path=path)))


def test_several_pairs_of_idx_files_have_ids_that_count_on(here: Path) -> None:
    for name in ("a", "b"):
        (here / name).write_bytes(idx(PICTURES))
        (here / f"{name}.labels").write_bytes(idx(np.array([1, 2, 3], np.uint8)))
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
def test_images_move_as_far_as_the_recipe_says_and_each_on_its_own(
    augment: Augment, down: tuple[float, float], right: tuple[float, float]
) -> None:
    places = middles(augment_images(spots(), augment, torch.Generator().manual_seed(0)))
    for at, (low, high) in zip(places.T, (down, right), strict=True):
        assert low - 0.1 <= at.min()
        assert at.max() <= high + 0.1
    assert places.std(0).max() > 0.3
    again = middles(augment_images(spots(), augment, torch.Generator().manual_seed(0)))
    assert torch.equal(places, again)


def test_a_distortion_moves_pixels_by_that_much_on_average_and_neighbours_alike() -> None:
    """Seen on ramps, whose pixels say where they were."""
    ramp = torch.arange(28.0).expand(2000, 1, 28, 28)
    change = (augment_images(ramp, Augment(elastic=0.8), torch.Generator().manual_seed(0)) - ramp)[
        :, 0, 4:-4, 4:-4
    ]
    assert float(change.square().mean().sqrt()) == pytest.approx(0.8, rel=0.03)
    assert float((change[:, :, 1:] - change[:, :, :-1]).abs().max()) < 0.8


@pytest.mark.parametrize(
    ("shape", "layers", "inputs"),
    [
        ((1, 8, 8), 4, 64 * 16),
        ((1, 28, 28), 6, 128 * 49),
        ((3, 64, 50), 8, 256 * 8 * 7),
        ((1, 5, 5), 2, 32 * 25),
    ],
)
def test_the_network_is_as_deep_as_the_images_are_large(
    shape: tuple[int, ...], layers: int, inputs: int
) -> None:
    made = build_convolutional_network(shape, 3, PixelScale(0.0, 1.0))
    assert sum(isinstance(module, torch.nn.Conv2d) for module in made.modules()) == layers
    assert made.head.in_features == inputs
    assert made(torch.zeros(2, *shape)).shape == (2, 3)


def test_the_exported_model_says_what_the_network_says(tmp_path: Path) -> None:
    rows = [
        encoded(np.random.default_rng(seed).integers(0, 256, (12, 9), dtype=np.uint8))
        for seed in range(5)
    ]
    trainer = ImageTrainer(Train(), rows, ClassificationProblem(["a", "b", "c"]))
    info = tiny.model_info("image", labels=["a", "b", "c"], input=trainer.export(tmp_path))
    with torch.no_grad():
        expected = trainer.network.eval()(
            *trainer.collate(trainer.encode(rows), None).inputs
        ).softmax(1)
    said = ImagePredictor(tmp_path, info, 1)(rows)
    assert said == pytest.approx(expected.numpy(), abs=1e-5)


def saved(image: Image.Image, form: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP"])
def test_images_of_8_bits_give_exactly_the_pixels_of_the_file(mode: str, form: str) -> None:
    shape = (9, 7) if mode == "L" else (9, 7, 3)
    data = encoded(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), form)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        expected = np.asarray(image)
    found = decode_images([data])[0]
    assert (found == (expected[None] if mode == "L" else expected.transpose(2, 0, 1))).all()


RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)  # 0, 257, 514 …
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    ("image", "form"),
    [
        (Image.fromarray(RAMP), "PNG"),
        (Image.fromarray(RAMP.astype(">u2")), "TIFF"),
        (Image.fromarray(RAMP.astype(np.int32)), "TIFF"),
        (Image.fromarray(LEVELS.astype(np.float32) / 255), "TIFF"),
        (Image.fromarray(LEVELS.astype(np.float32)), "TIFF"),
    ],
    ids=["I;16", "I;16B", "I", "F to 1", "F to 255"],
)
def test_grey_images_of_16_bits_and_of_fractions_are_scaled_to_8(
    image: Image.Image, form: str
) -> None:
    assert (decode_images([saved(image, form)])[0, 0] == LEVELS).all()


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (np.array([[-1, 5]], np.int32), "I numbers from -1 to 5, but only 0 to 65535 can be read"),
        (np.array([[0, 70_000]], np.int32), "I numbers from 0 to 70000"),
        (np.array([[0.5, 256]], np.float32), "F numbers from 0.5 to 256.0, but only 0 to 255 can"),
        (np.array([[0.5, np.nan]], np.float32), "F numbers from nan to nan"),
    ],
)
def test_numbers_of_no_known_range_are_refused_with_that_range(
    numbers: np.ndarray[tuple[int, int], np.dtype[Any]], sentence: str
) -> None:
    with pytest.raises(StageError, match=f"an image of {sentence}.*save it with 8 or 16 bits"):
        image_decoding.decode_image(saved(Image.fromarray(numbers), "TIFF"))


def drawing(mode: str) -> Image.Image:
    """A black stroke that lies in the alpha channel alone."""
    alpha = Image.new("L", (6, 5))
    alpha.paste(255, (2, 1, 4, 4))
    if mode == "P":
        image = alpha.point(lambda level: level // 255).convert("P")
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.info["transparency"] = bytes([0, 255])
        return image
    image = Image.new(mode, (6, 5))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_drawn_in_the_alpha_channel_is_seen_on_white(mode: str) -> None:
    found = decode_images([saved(drawing(mode))])[0]
    expected = np.full((5, 6), 255)
    expected[1:4, 2:4] = 0
    assert found.shape == (3, 5, 6)
    assert (found == expected).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_an_opaque_image_keeps_its_pixels_whatever_its_mode(mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(colours).convert("L" if mode == "LA" else "RGB").convert(mode)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert (decode_images([saved(image)])[0] == expected).all()


def turned(orientation: int, form: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    corner = Image.new("L", (32, 16))
    corner.paste(255, (0, 0, 16, 8))
    return saved(corner, form, exif=exif)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "shape", "corner"),
    [
        (1, (16, 32), (0, 0)),
        (2, (16, 32), (0, -1)),
        (3, (16, 32), (-1, -1)),
        (4, (16, 32), (-1, 0)),
        (5, (32, 16), (0, 0)),
        (6, (32, 16), (0, -1)),
        (7, (32, 16), (-1, -1)),
        (8, (32, 16), (-1, 0)),
    ],
)
def test_a_photograph_is_turned_as_its_exif_says(
    form: str, orientation: int, shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    data = turned(orientation, form)
    found = decode_images([data])[0, 0]
    assert found.shape == shape
    corners = {(down, right): found[down, right] > 128 for down in (0, -1) for right in (0, -1)}
    assert [place for place, light in corners.items() if light] == [corner]
    with Image.open(io.BytesIO(data)) as image:
        assert image_decoding.upright_size(image) == (shape[1], shape[0])


def test_the_rules_for_images_see_them_upright_too() -> None:
    table = pa.table({"image": [turned(1, "JPEG"), turned(6, "JPEG"), turned(3, "JPEG")]})
    wrong = "size and mode (16, 32, 'L') where 2 have (32, 16, 'L')"
    assert images.reject_unreadable(table) == [None, wrong, None]
    told = images.reject_size(table, None, None, [32, 16])
    assert told == [None, "16x32 pixels; allowed are exactly 32x16", None]


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX"])
def test_a_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    plain = saved(Image.fromarray(PICTURES[0]), "JPEG")
    assert (
        decode_images([saved(Image.fromarray(PICTURES[0]), "JPEG", exif=exif)])
        == decode_images([plain])
    ).all()


def test_images_that_are_all_of_one_colour_are_no_training_data() -> None:
    blank = [encoded(np.full((8, 8, 3), level, np.uint8)) for level in (0, 255, 7)]
    with pytest.raises(StageError, match="each of the 3 images to train on has one colour"):
        ImageTrainer(Train(), blank, ClassificationProblem(["a", "b"]))
    dotted = np.zeros((8, 8, 3), np.uint8)
    dotted[3, 4, 1] = 1
    check_contrast(decode_images([*blank, encoded(dotted)]))


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
