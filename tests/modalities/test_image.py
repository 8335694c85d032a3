"""Image classifiers: augmentation, the network, and what is exported."""

from pathlib import Path

import numpy as np
import pytest
import torch

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
from tasks.recipe.train import Augment, Train
from tests import tiny


def build_dots() -> torch.Tensor:
    """64 images of one dot off their middle."""
    images = torch.zeros(64, 1, 21, 21)
    images[:, :, 10, 15] = 1
    return images


def find_dots(images: torch.Tensor) -> torch.Tensor:
    """Where the dots are, from the middle, shape (images, 2): down and right."""
    weights = images[:, 0] / images.sum((1, 2, 3))[:, None, None]
    offsets = torch.arange(21.0) - 10
    return torch.stack([weights.sum(2) @ offsets, weights.sum(1) @ offsets], 1)


@pytest.mark.parametrize(
    ("augment", "down", "right"),
    [
        (Augment(shift=2), (-2, 2), (3, 7)),
        (Augment(rotate=30.0), (-2.6, 2.6), (4.3, 5.1)),
        (Augment(zoom=0.2), (-0.1, 0.1), (4.1, 6.3)),
        (Augment(elastic=0.5), (-2, 2), (3, 7)),
    ],
)
def test_each_image_moves_at_random_as_far_as_the_recipe_says(
    augment: Augment, down: tuple[float, float], right: tuple[float, float]
) -> None:
    positions = find_dots(augment_images(build_dots(), augment, torch.Generator().manual_seed(0)))
    for axis, (low, high) in zip(positions.T, (down, right), strict=True):
        assert low - 0.1 <= axis.min()
        assert axis.max() <= high + 0.1
    assert positions.std(0).max() > 0.3
    again = find_dots(augment_images(build_dots(), augment, torch.Generator().manual_seed(0)))
    assert torch.equal(positions, again)


def test_a_distortion_moves_pixels_smoothly_by_the_given_average() -> None:
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
def test_larger_images_get_a_deeper_network(
    shape: tuple[int, ...], layers: int, inputs: int
) -> None:
    network = build_convolutional_network(shape, 3, PixelScale(0.0, 1.0))
    assert sum(isinstance(module, torch.nn.Conv2d) for module in network.modules()) == layers
    assert network.get_submodule("head").in_features == inputs
    assert network(torch.zeros(2, *shape)).shape == (2, 3)


def test_the_exported_model_predicts_as_the_network(tmp_path: Path) -> None:
    rows = [
        tiny.encode_image(np.random.default_rng(seed).integers(0, 256, (12, 9), dtype=np.uint8))
        for seed in range(5)
    ]
    trainer = ImageTrainer(Train(), rows, ClassificationProblem(["a", "b", "c"]))
    info = tiny.model_info("image", labels=["a", "b", "c"], input=trainer.export(tmp_path))
    with torch.no_grad():
        expected = trainer.network.eval()(
            *trainer.collate(trainer.encode(rows), None).inputs
        ).softmax(1)
    answers = ImagePredictor(tmp_path, info, 1)(rows)
    assert answers == pytest.approx(expected.numpy(), abs=1e-5)


def test_images_of_a_single_colour_are_no_training_data() -> None:
    blank = [tiny.encode_image(np.full((8, 8, 3), level, np.uint8)) for level in (0, 255, 7)]
    with pytest.raises(StageError, match="each of the 3 images to train on has one colour"):
        ImageTrainer(Train(), blank, ClassificationProblem(["a", "b"]))
    dotted = np.zeros((8, 8, 3), np.uint8)
    dotted[3, 4, 1] = 1
    check_contrast(decode_images([*blank, tiny.encode_image(dotted)]))
