"""Images: a small convolutional network trained from scratch."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import modalities
from tasks.problems import Floats, Problem, Targets, of_model
from tasks.recipe import Train
from tasks.step import Failure


def pixels(rows: Sequence[bytes]) -> NDArray[np.float32]:
    """Encoded images → array (rows, channels, height, width) with values 0 to 255. Raises Failure where sizes differ."""
    from PIL import Image

    arrays = []
    for data in rows:
        with Image.open(io.BytesIO(data)) as image:
            array = np.asarray(image.convert("L" if image.mode in ("1", "L", "I;16", "I") else "RGB"), dtype=np.float32)
        arrays.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise Failure(f"images have several sizes, {shapes[0]} and {shapes[-1]} (channels, height, width): resize them to one.")
    return np.stack(arrays)


class Trainer:
    mixed = False  # these layers are too small for bf16 to pay

    def __init__(self, section: Train, rows: Sequence[bytes], problem: Problem) -> None:
        import torch

        self.section, self.problem = section, problem
        images = pixels(rows)
        torch.manual_seed(section.seed)
        self.network = network(images.shape[1:], problem.width, float(images.mean()), float(images.std()) or 1.0)

    def encode(self, rows: Sequence[bytes]) -> list[Any]:
        import torch

        return list(torch.from_numpy(pixels(rows)))

    def batches(self, examples: list[Any], epoch: int | None) -> list[list[int]]:
        return modalities.batches(len(examples), epoch, self.section)

    def prepare(self, examples: list[Any], targets: Targets) -> None:
        """Nothing is known before training from scratch."""

    def collate(self, examples: list[Any], generator: Any) -> tuple[Any, ...]:
        import torch

        images = torch.stack(examples)
        augment = self.section.augment
        if generator is not None and (augment.shift or augment.rotate):
            images = moved(images, augment.shift, augment.rotate, generator)
        return (images,)

    def export(self, folder: Path) -> dict[str, Any]:
        import torch

        shape = [int(size) for size in self.network.shape]
        modalities.export_onnx(self.network.cpu(), (torch.zeros(2, *shape),), ["pixels"], ({0: torch.export.Dim("rows", min=1)},), folder / "model.onnx")
        return {"base": None, "shape": shape}


def moved(images: Any, shift: int, rotate: float, generator: Any) -> Any:
    """Each image shifted by up to `shift` pixels and rotated by up to `rotate` degrees, at random; what comes in from outside is the border's colour."""
    import torch

    rows, _, height, width = images.shape
    angle = (torch.rand(rows, generator=generator) * 2 - 1) * rotate * torch.pi / 180
    offset = (torch.rand(rows, 2, generator=generator) * 2 - 1) * torch.tensor([2 * shift / width, 2 * shift / height])
    matrix = torch.stack([torch.stack([angle.cos(), -angle.sin(), offset[:, 0]], 1), torch.stack([angle.sin(), angle.cos(), offset[:, 1]], 1)], 1)
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def network(shape: Sequence[int], classes: int, mean: float, deviation: float) -> Any:
    import torch
    from torch import nn

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    class Convolutions(nn.Module):
        mean: torch.Tensor
        deviation: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.shape = tuple(shape)
            self.register_buffer("mean", torch.tensor(mean))
            self.register_buffer("deviation", torch.tensor(deviation))
            self.features = nn.Sequential(
                block(shape[0], 32), block(32, 32), nn.MaxPool2d(2), block(32, 64), block(64, 64), nn.AdaptiveAvgPool2d(2), nn.Flatten()
            )
            self.head = nn.Linear(256, classes)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(self.features((images - self.mean) / self.deviation))
            return logits

    return Convolutions()


class Predictor:
    def __init__(self, folder: Path, about: dict[str, Any], threads: int) -> None:
        self.problem = of_model(about)
        self.labels = self.problem.labels
        self.shape = tuple(about["shape"])
        self.session = modalities.session(folder / "model.onnx", threads)

    def __call__(self, rows: Sequence[bytes], batch: int = 256) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(rows), batch):
            images = pixels(rows[start : start + batch])
            if images.shape[1:] != self.shape:
                raise Failure(f"images have the size {images.shape[1:]} (channels, height, width), but the model was trained on {self.shape}.")
            parts.append(self.problem.answers(self.session.run(["logits"], {"pixels": images})[0]))
        return np.concatenate(parts)


def baseline(train: Sequence[bytes], targets: Targets, rows: Sequence[bytes], problem: Problem) -> Floats:
    """A linear model (logistic regression) on the pixels, fitted on `train`; answers for `rows`, shape (rows, width)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), problem.linear()).fit(pixels(train).reshape(len(train), -1), targets)
    return problem.asked(model, pixels(rows).reshape(len(rows), -1))
