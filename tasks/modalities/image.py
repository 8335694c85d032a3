"""Images: a convolutional network, deeper for larger images, trained from scratch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks import problems
from tasks.contracts.model_info import ImageInput, ModelInfo
from tasks.core.errors import StageError
from tasks.modalities import onnx
from tasks.modalities.base import Modality, ModelTrainer, Predictor
from tasks.modalities.onnx import ExportedInput
from tasks.problems.base import Problem, Targets
from tasks.problems.batch import Batch
from tasks.recipe.train import Augment, Train
from tasks.rows import image_decoding
from tasks.rows.image_decoding import ResizeMethod
from tasks.statistics.array_types import Floats
from tasks.storage.layout import ModelFolder

if TYPE_CHECKING:
    import torch

MIN_SIDE = 7  # pixels; a side that is no longer is not halved further
FIRST_CHANNELS = 32
MAX_CHANNELS = 256
ELASTIC_KNOTS = 7  # along each side; a distortion is interpolated between them
PREDICTION_BATCH = 256  # images

Pixels = NDArray[np.uint8]


def decode_images(rows: Sequence[bytes]) -> Pixels:
    """Decode images to values from 0 to 255, `[rows, channels, height, width]`.

    They are all read in colour if any of them has it, which loses nothing.

    Raises:
        StageError: An image cannot be decoded, or their sizes differ.
    """
    return stack_images(list(map(image_decoding.decode_image, rows)))


def stack_images(images: Sequence[Image.Image]) -> Pixels:
    """Return the pixels of decoded images of one size, `[images, channels, height, width]`."""
    require_one_size(images)
    n_channels = max(map(count_channels, images))
    return np.stack([to_array(image, n_channels) for image in images])


def count_channels(image: Image.Image) -> int:
    """Return 3 for colour, 1 for grey."""
    return len(image.getbands())


def to_array(image: Image.Image, n_channels: int) -> Pixels:
    """Return a decoded image's pixels in grey or in colour, `[channels, height, width]`."""
    array = np.asarray(image.convert("L" if n_channels == 1 else "RGB"), np.uint8)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def require_one_size(images: Sequence[Image.Image]) -> None:
    """Raise StageError, with the rules that mend it, if images have several sizes."""
    counts = Counter(image.size for image in images)
    if len(counts) < 2:
        return
    shown = [f"{width}x{height} ({count})" for (width, height), count in counts.most_common(2)]
    [(width, height), _] = counts.most_common(1)[0]
    raise StageError(
        f"the images have {len(counts)} sizes, such as {' and '.join(shown)}: put into clean.rules "
        f"the rule resize: {{to: [{height}, {width}]}}, which brings all to one height and width, "
        "or same_size, which drops those of another size than most."
    )


def decode_to_shape(
    rows: Sequence[bytes], shape: Sequence[int], resize: ResizeMethod | None
) -> Pixels:
    """Decode images to the shape of those that a model was trained on.

    Args:
        rows: The images' bytes.
        shape: Channels, height and width.
        resize: How the training images were brought to their size; None if they came so.

    Raises:
        StageError: An image cannot be decoded, or has another size and is not to be resized.
    """
    n_channels, height, width = shape
    arrays = []
    for data in rows:
        image = image_decoding.decode_image(data)
        if resize:
            image = image_decoding.resize_image(image, height, width, resize)
        if image.size != (width, height):
            raise StageError(
                f"an image has {image.width}x{image.height} pixels, but the model was trained on "
                f"{width}x{height}: resize it, or train with the rule resize: {{to: [{height}, "
                f"{width}]}} in clean.rules, which the model then applies itself."
            )
        arrays.append(to_array(image, n_channels))
    return np.stack(arrays)


def check_contrast(images: Pixels) -> None:
    """Raise StageError if every image, `[rows, channels, height, width]`, has a single colour."""
    if all((image == image[:, :1, :1]).all() for image in images):
        raise StageError(
            f"each of the {len(images)} images to train on has one colour from edge to edge, so "
            "that there is nothing to learn: look at the files, and save them with 8 or 16 bits "
            "a channel."
        )


@dataclass(frozen=True)
class ImageBatch(Batch):
    """Some images, augmented for training."""

    pixels: "torch.Tensor"  # [rows, channels, height, width], from 0 to 255


class ImageTrainer(ModelTrainer):
    """Trains the convolutional network."""

    SUPPORTS_MIXED_PRECISION = True
    HAS_DIFFERENTIABLE_INPUTS = True

    def __init__(self, config: Train, rows: Sequence[bytes], problem: Problem) -> None:
        import torch

        self.config = config
        self.problem = problem
        decoded = list(map(image_decoding.decode_image, rows))
        images = stack_images(decoded)
        check_contrast(images)
        self.warnings = warn_of_mixed_modes(decoded)
        torch.manual_seed(config.seed)
        std = float(images.std(dtype=np.float32)) or 1.0
        scale = PixelScale(float(images.mean()), std)
        self.shape = images.shape[1:]
        self.network = build_convolutional_network(self.shape, problem.width, scale)

    def encode(self, rows: Sequence[bytes]) -> list["torch.Tensor"]:
        """Decode the images."""
        import torch

        return list(torch.from_numpy(decode_to_shape(rows, self.shape, None)))

    def collate(
        self, examples: list["torch.Tensor"], generator: "torch.Generator | None"
    ) -> ImageBatch:
        """Stack the images; with a generator, augment them as the recipe says."""
        import torch

        images = torch.stack(examples).float()
        augment = self.config.augment
        if generator is None or augment == Augment():
            return ImageBatch(images)
        return ImageBatch(augment_images(images, augment, generator))

    def export(self, folder: Path) -> ImageInput:
        """Write model.onnx."""
        import torch

        channels, height, width = (int(size) for size in self.shape)
        example = torch.zeros(2, channels, height, width)
        pixels = ExportedInput("pixels", example, {0: torch.export.Dim("rows", min=1)})
        onnx.export_network(self.network.cpu(), [pixels], ModelFolder(folder).onnx)
        return ImageInput(shape=(channels, height, width))


def warn_of_mixed_modes(images: Sequence[Image.Image]) -> list[str]:
    """Say how many of the training images are grey, if others have colour."""
    n_grey = sum(count_channels(image) == 1 for image in images)
    if n_grey in (0, len(images)):
        return []
    return [
        f"{n_grey} of {len(images)} training images are grey, and are read as colour like others"
    ]


def augment_images(
    images: "torch.Tensor", augment: Augment, generator: "torch.Generator"
) -> "torch.Tensor":
    """Shift, rotate, enlarge and distort each image at random, in one interpolation.

    What moves in from outside has the border's colour.
    """
    import torch

    rows, _, height, width = images.shape
    pixel_size = torch.tensor([2 / width, 2 / height])  # of the grid's range from -1 to 1
    matrix = draw_affine_matrices(rows, augment, pixel_size, generator)
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    if augment.elastic:
        field = draw_distortions(rows, height, width, generator)
        grid += field * augment.elastic * pixel_size
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def draw_affine_matrices(
    rows: int, augment: Augment, pixel_size: "torch.Tensor", generator: "torch.Generator"
) -> "torch.Tensor":
    """Draw a rotation, an enlargement and a shift for each image: `[rows, 2, 3]`."""
    import torch

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(rows, *shape, generator=generator) * 2 - 1  # uniform in [-1, 1)

    angle = draw() * augment.rotate * torch.pi / 180
    zoom = 1 + draw() * augment.zoom
    offset = draw(2) * augment.shift * pixel_size  # [rows, 2]
    cosine = angle.cos() * zoom
    sine = angle.sin() * zoom
    first_row = torch.stack([cosine, -sine, offset[:, 0]], 1)
    second_row = torch.stack([sine, cosine, offset[:, 1]], 1)
    return torch.stack([first_row, second_row], 1)


def draw_distortions(
    rows: int, height: int, width: int, generator: "torch.Generator"
) -> "torch.Tensor":
    """Draw a smooth field of normal numbers of variance 1 for each image.

    It moves each pixel (Simard, Steinkraus and Platt 2003). Returns `[rows, height, width, 2]`.
    """
    import torch

    knots = torch.randn(rows, ELASTIC_KNOTS, ELASTIC_KNOTS, 2, generator=generator)
    return torch.einsum("yi,rijc,xj->ryxc", knot_weights(height), knots, knot_weights(width))


def knot_weights(side: int) -> "torch.Tensor":
    """Weigh the knots for each pixel of a side by a Gaussian that reaches to the next knot.

    The weights of a pixel have length 1, so that the field has variance 1. `[side, knots]`.
    """
    import torch

    positions = torch.linspace(0, ELASTIC_KNOTS - 1, side)[:, None]
    distance = positions - torch.arange(ELASTIC_KNOTS)
    return torch.nn.functional.normalize(torch.exp(-(distance**2) / 2), dim=1)


@dataclass(frozen=True)
class PixelScale:
    """Mean and standard deviation of the training images' pixels."""

    mean: float
    std: float


def build_convolutional_network(
    shape: Sequence[int], n_outputs: int, scale: PixelScale
) -> "torch.nn.Module":
    """Build layers of 3 x 3 convolutions with batch normalisation for images of a shape.

    Every second layer halves the image until a side is at most MIN_SIDE; the layer after it has
    twice the channels.
    """
    import torch
    from torch import nn

    channels, height, width = shape
    layers = [build_block(channels, FIRST_CHANNELS)]
    n_channels = FIRST_CHANNELS
    while min(height, width) > MIN_SIDE:
        n_wider = min(2 * n_channels, MAX_CHANNELS)
        layers += [build_block(n_channels, n_channels, stride=2), build_block(n_channels, n_wider)]
        n_channels = n_wider
        height = (height + 1) // 2
        width = (width + 1) // 2
    layers.append(build_block(n_channels, n_channels))

    class Convolutions(nn.Module):
        mean: torch.Tensor  # attributes keep their names, which are in the exported files
        deviation: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.shape = tuple(shape)
            self.register_buffer("mean", torch.tensor(scale.mean))
            self.register_buffer("deviation", torch.tensor(scale.std))
            self.features = nn.Sequential(*layers, nn.Flatten())
            self.head = nn.Linear(n_channels * height * width, n_outputs)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.features((images - self.mean) / self.deviation))
            return logits

    network: nn.Module = Convolutions()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def build_block(n_inputs: int, n_outputs: int, stride: int = 1) -> "torch.nn.Sequential":
    """Build a convolution with batch normalisation and ReLU."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(n_outputs),
        nn.ReLU(),
    )


class ImagePredictor(Predictor):
    """The exported convolutional network."""

    def __init__(self, folder: Path, info: ModelInfo, threads: int) -> None:
        assert isinstance(info.input, ImageInput)
        self.problem = problems.from_model_info(info)
        self.labels = info.labels
        self.shape = info.input.shape
        self.resize = info.input.resize
        self.session = onnx.open_session(ModelFolder(folder).onnx, threads)

    def __call__(self, rows: Sequence[bytes], batch_size: int = PREDICTION_BATCH) -> Floats:
        """Return the answers for images, `[rows, width]`."""
        starts = range(0, len(rows), batch_size)
        batches = [self.predict_batch(rows[start : start + batch_size]) for start in starts]
        return np.concatenate(batches)

    def predict_batch(self, rows: Sequence[bytes]) -> Floats:
        """Return the answers for images that are in memory at once."""
        images = decode_to_shape(rows, self.shape, self.resize)
        pixels = images.astype(np.float32)
        return self.problem.decode_outputs(self.session.run(["logits"], {"pixels": pixels})[0])


def predict_baseline(
    train: Sequence[bytes], targets: Targets, rows: Sequence[bytes], problem: Problem
) -> Floats:
    """Predict with a linear model (logistic regression) on the pixels, fitted on `train`.

    Returns the answers for `rows`, `[rows, width]`.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), problem.build_linear_baseline())
    images = decode_images(train)
    model.fit(images.reshape(len(train), -1), targets)
    others = decode_to_shape(rows, images.shape[1:], None)
    return problem.predict_with(model, others.reshape(len(rows), -1))


MODALITY = Modality(ImageTrainer, ImagePredictor, predict_baseline)
