"""Images: a convolutional network, as deep as they are large, trained from scratch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import StageError
from tasks.modalities import onnx
from tasks.modalities.base import Trainer
from tasks.problems import from_model_info
from tasks.problems.base import Problem, Targets
from tasks.recipe.train import Augment, Train
from tasks.rows import image_decoding
from tasks.statistics.array_types import Floats

MIN_SIDE = 7  # pixels, up to which a side is not halved further
FIRST_CHANNELS, MAX_CHANNELS = 32, 256  # channels of the first layer, and of any
ELASTIC_KNOTS = 7  # along each side, between which a distortion is interpolated


def decode_images(rows: Sequence[bytes]) -> NDArray[np.uint8]:
    """Encoded images → array (rows, channels, height, width) with values 0 to 255. Raises Failure where sizes differ."""
    arrays = []
    for data in rows:
        array = np.asarray(image_decoding.decode_image(data), dtype=np.uint8)
        arrays.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise StageError(
            f"images have several sizes, {shapes[0]} and {shapes[-1]} (channels, height, width): resize them to one."
        )
    return np.stack(arrays)


def check_contrast(images: NDArray[np.uint8]) -> None:
    """Raise Failure where each of the images (rows, channels, height, width) is of one colour."""
    if all((image == image[:, :1, :1]).all() for image in images):
        what = "has one colour from edge to edge, so that there is nothing to learn"
        advice = "look at the files, and save them with 8 or 16 bits a channel"
        raise StageError(f"each of the {len(images)} images to train on {what}: {advice}.")


class ImageTrainer(Trainer):
    mixed = True

    def __init__(self, section: Train, rows: Sequence[bytes], problem: Problem) -> None:
        import torch

        self.section, self.problem = section, problem
        images = decode_images(rows)
        check_contrast(images)
        torch.manual_seed(section.seed)
        self.network = build_convolutional_network(
            images.shape[1:],
            problem.width,
            float(images.mean()),
            float(images.std(dtype=np.float32)) or 1.0,
        )

    def encode(self, rows: Sequence[bytes]) -> list[Any]:
        import torch

        return list(torch.from_numpy(decode_images(rows)))

    def collate(self, examples: list[Any], generator: Any) -> tuple[Any, ...]:
        import torch

        images = torch.stack(examples).float()
        augment = self.section.augment
        return (
            images
            if generator is None or augment == Augment()
            else augment_images(images, augment, generator),
        )

    def export(self, folder: Path) -> dict[str, Any]:
        import torch

        shape = [int(size) for size in self.network.shape]
        onnx.export_network(
            self.network.cpu(),
            (torch.zeros(2, *shape),),
            ["pixels"],
            ({0: torch.export.Dim("rows", min=1)},),
            folder / "model.onnx",
        )
        return {"base": None, "shape": shape}


def augment_images(images: Any, augment: Augment, generator: Any) -> Any:
    """Each image shifted, rotated, enlarged and distorted at random, by one look-up; what comes in from outside is the border's colour.

    A distortion moves each pixel by a smooth field of normal numbers, `elastic` pixels on average (root mean square; Simard, Steinkraus and Platt 2003).
    """
    import torch

    rows, _, height, width = images.shape

    def within(*shape: int) -> Any:
        return torch.rand(rows, *shape, generator=generator) * 2 - 1

    def smooth(side: int) -> Any:
        """What each knot counts for each pixel of a side: by a Gaussian (Parzen window) that reaches to the next, such that the field's variance is 1."""
        apart = torch.linspace(0, ELASTIC_KNOTS - 1, side)[:, None] - torch.arange(ELASTIC_KNOTS)
        return torch.nn.functional.normalize(torch.exp(-(apart**2) / 2), dim=1)

    angle, zoom = within() * augment.rotate * torch.pi / 180, 1 + within() * augment.zoom
    pixel = torch.tensor([2 / width, 2 / height])
    offset = within(2) * augment.shift * pixel
    cosine, sine = angle.cos() * zoom, angle.sin() * zoom
    matrix = torch.stack(
        [
            torch.stack([cosine, -sine, offset[:, 0]], 1),
            torch.stack([sine, cosine, offset[:, 1]], 1),
        ],
        1,
    )
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    if augment.elastic:
        knots = torch.randn(rows, ELASTIC_KNOTS, ELASTIC_KNOTS, 2, generator=generator)
        grid += (
            torch.einsum("yi,rijc,xj->ryxc", smooth(height), knots, smooth(width))
            * augment.elastic
            * pixel
        )
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def build_convolutional_network(
    shape: Sequence[int], classes: int, mean: float, deviation: float
) -> Any:
    """Layers of 3 x 3 with batch normalisation. Each second one halves the image, until a side is SMALL, and the one after it has twice the channels."""
    import torch
    from torch import nn

    def block(inputs: int, outputs: int, step: int = 1) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, step, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    layers, width, (height, breadth) = [block(shape[0], FIRST_CHANNELS)], FIRST_CHANNELS, shape[1:]
    while min(height, breadth) > MIN_SIDE:
        wider = min(2 * width, MAX_CHANNELS)
        layers += [block(width, width, 2), block(width, wider)]
        width, height, breadth = wider, (height + 1) // 2, (breadth + 1) // 2

    class Convolutions(nn.Module):
        mean: torch.Tensor
        deviation: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.shape = tuple(shape)
            self.register_buffer("mean", torch.tensor(mean))
            self.register_buffer("deviation", torch.tensor(deviation))
            self.features = nn.Sequential(*layers, block(width, width), nn.Flatten())
            self.head = nn.Linear(width * height * breadth, classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.features((images - self.mean) / self.deviation))
            return logits

    return Convolutions().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class ImagePredictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.problem = from_model_info(about)
        self.labels = self.problem.labels
        self.shape = tuple(about["shape"])
        self.session = onnx.open_session(folder / "model.onnx", threads)

    def __call__(self, rows: Sequence[bytes], batch: int = 256) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(rows), batch):
            images = decode_images(rows[start : start + batch])
            if images.shape[1:] != self.shape:
                raise StageError(
                    f"images have the size {images.shape[1:]} (channels, height, width), but the model was trained on {self.shape}."
                )
            parts.append(
                self.problem.decode_outputs(
                    self.session.run(["logits"], {"pixels": images.astype(np.float32)})[0]
                )
            )
        return np.concatenate(parts)


def predict_baseline(
    train: Sequence[bytes], targets: Targets, rows: Sequence[bytes], problem: Problem
) -> Floats:
    """A linear model (logistic regression) on the pixels, fitted on `train`; answers for `rows`, shape (rows, width)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), problem.build_linear_baseline()).fit(
        decode_images(train).reshape(len(train), -1), targets
    )
    return problem.predict_with(model, decode_images(rows).reshape(len(rows), -1))
