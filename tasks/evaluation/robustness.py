"""Robustness: how the exported model's answers change with inputs whose labels stay the same.

A changed row keeps its answer if the same class or the same labels are predicted, or a number less
than a tenth of the targets' standard deviation away.
"""

import io
import random
import re
import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tasks import modalities
from tasks.contracts.base import JsonObject
from tasks.contracts.model_info import ImageInput, NumberColumn, TabularInput
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.rendering import render_difference
from tasks.modalities import image, tabular
from tasks.problems.base import Problem
from tasks.recipe.train import Augment
from tasks.statistics import intervals
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import proportion_interval

MAX_ROWS = 100  # of the test split, drawn at random
TOLERANCE_STD = 0.1  # standard deviations of the targets
TYPO_RATE = 0.08  # of pairs of letters that change places
LOOK_ALIKE_RATE = 0.1  # of letters that have a look-alike
TRUNCATED_LENGTH = 0.75  # of a text that is left
MAX_SHIFT = 1 / 8  # of an image's shorter side
MAX_ROTATION = 15.0  # degrees
NOISE_LEVEL = 13.0  # levels of 255
BRIGHTNESS_CHANGE = 0.2  # fraction of the brightness
MISSING_CELL_RATE = 0.1
JITTER_STD = 0.1  # standard deviations of a column
# Latin letters, and Cyrillic ones that look the same
LOOK_ALIKES = str.maketrans("aceiopsxyABCEHIKMOPTX", "асеіорѕхуАВСЕНІКМОРТХ")
INNER_LETTERS = re.compile(r"(?<=\w)(\w)(\w)(?=\w)")
WHITE_SPACES = ("  ", "\n", "\t", "\u00a0")

# From a row to the changed row; what it draws comes from the generator.
Perturbation = Callable[[Any, random.Random], Any]
ImageChange = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def measure(context: EvaluationContext) -> AspectResult | None:
    """Measure the answers to changed inputs; None for a model that writes text."""
    problem = context.problem
    if problem.NAME == "language":
        return None
    sample = draw_rows(context)
    rows = [context.inputs[row] for row in sample]
    targets = context.targets[sample]
    before = context.answers[sample]
    outcomes = {
        name: measure_perturbation(context, ChangedRows(name, perturb, rows, targets, before))
        for name, perturb in build_perturbations(context).items()
    }
    report = {
        "metric": problem.metrics[0],
        "unchanged": problem.measure(targets, before)[problem.metrics[0]],
        "rows": len(rows),
        "examples": [outcome.example for outcome in outcomes.values()],
    }
    return AspectResult({name: outcome.metrics for name, outcome in outcomes.items()}, report)


class ChangedRows(NamedTuple):
    """A perturbation, and the rows that it changes.

    Attributes:
        name: The perturbation's name.
        perturb: The perturbation.
        rows: The rows' inputs.
        targets: Their targets, shape [rows, …].
        before: The answers to the unchanged rows, shape [rows, width].
    """

    name: str
    perturb: Perturbation
    rows: list[Any]
    targets: NDArray[Any]
    before: Floats


class Outcome(NamedTuple):
    """How the model copes with one perturbation: numbers, and an example for the report."""

    metrics: JsonObject
    example: JsonObject


def measure_perturbation(context: EvaluationContext, case: ChangedRows) -> Outcome:
    """Measure the answers to the changed rows."""
    problem = context.problem
    metric = problem.metrics[0]
    generator = random.Random(f"{context.config.seed}-{case.name}")  # noqa: S311
    # a text of which nothing is left stays as it is
    changed = [case.perturb(row, generator) or row for row in case.rows]
    after = modalities.predict(context.predictor, changed)
    is_kept = find_kept_answers(problem, case.before, after, target_std(context))
    metrics = {
        "kept": proportion_interval(is_kept, context.config),
        metric: round(problem.measure(case.targets, after)[metric], intervals.DIGITS),
    }
    index = example_index(case.rows, changed, is_kept)
    answers = np.stack([case.before[index], after[index]])
    example = {
        "name": case.name,
        "before_and_after": render_difference(case.rows[index], changed[index]),
        "predicted": name_answers(problem, case.targets[[index, index]], answers),
    }
    return Outcome(metrics, example)


def target_std(context: EvaluationContext) -> float:
    """Return the standard deviation of the training targets, if they are numbers."""
    if context.problem.NAME != "regression":
        return 0.0
    return float(np.std(context.problem.targets(context.train)))


def draw_rows(context: EvaluationContext) -> list[int]:
    """Return the positions of some random test rows, in order."""
    n_rows = len(context.inputs)
    generator = random.Random(context.config.seed)  # noqa: S311
    return sorted(generator.sample(range(n_rows), min(MAX_ROWS, n_rows)))


def find_kept_answers(
    problem: Problem, before: Floats, after: Floats, spread: float
) -> NDArray[np.bool_]:
    """Return which rows keep their answer, shape [rows]."""
    if problem.NAME == "classification":
        return np.asarray(before.argmax(1) == after.argmax(1))
    if problem.NAME == "multilabel":
        return np.asarray(((before >= 0.5) == (after >= 0.5)).all(1))
    return np.asarray(np.abs(before - after)[:, 0] <= TOLERANCE_STD * spread)


def example_index(rows: Sequence[Any], changed: Sequence[Any], is_kept: NDArray[np.bool_]) -> int:
    """Return the first row whose answer changed, else the first row that changed, else 0."""
    is_altered = [row != other for row, other in zip(rows, changed, strict=True)]
    altered = np.flatnonzero(is_altered)
    flipped = np.flatnonzero(np.array(is_altered) & ~is_kept)
    for candidates in (flipped, altered):
        if len(candidates):
            return int(candidates[0])
    return 0


def name_answers(problem: Problem, targets: NDArray[Any], answers: Floats) -> list[Any]:
    """Return answers as the class, the labels or the number that they stand for."""
    columns = problem.prediction_columns(targets, dict.fromkeys(("model", "baseline"), answers))
    return list(columns["predicted"].to_pylist())


def build_perturbations(context: EvaluationContext) -> dict[str, Perturbation]:
    """Return the ways in which an input of this modality may change, by name."""
    model_input = context.info.input
    if isinstance(model_input, ImageInput):
        return build_image_perturbations(min(model_input.shape[1:]))
    if isinstance(model_input, TabularInput):
        std_by_column = {
            column.name: column.std
            for column in model_input.columns
            if isinstance(column, NumberColumn)
        }
        return build_table_perturbations(std_by_column)
    return TEXT_PERTURBATIONS


def swap_letters(text: str, generator: random.Random) -> str:
    """Swap some pairs of letters within words."""
    return INNER_LETTERS.sub(
        lambda pair: pair[2] + pair[1] if generator.random() < TYPO_RATE else pair[0], text
    )


def swap_case(text: str, _: random.Random) -> str:
    """Swap upper and lower case."""
    return text.swapcase()


def strip_punctuation(text: str, _: random.Random) -> str:
    """Remove ASCII punctuation."""
    return text.translate(str.maketrans("", "", string.punctuation))


def change_white_space(text: str, generator: random.Random) -> str:
    """Replace each space by another white space."""
    return re.sub(" ", lambda _: generator.choice(WHITE_SPACES), text)


def replace_look_alikes(text: str, generator: random.Random) -> str:
    """Replace some Latin letters by Cyrillic ones that look the same."""
    return "".join(
        letter.translate(LOOK_ALIKES) if generator.random() < LOOK_ALIKE_RATE else letter
        for letter in text
    )


def truncate(text: str, _: random.Random) -> str:
    """Cut off the end."""
    return text[: round(len(text) * TRUNCATED_LENGTH)]


TEXT_PERTURBATIONS: dict[str, Perturbation] = {
    "typos": swap_letters,
    "case": swap_case,
    "punctuation": strip_punctuation,
    "white_space": change_white_space,
    "look_alikes": replace_look_alikes,
    "truncation": truncate,
}


def build_image_perturbations(side: int) -> dict[str, Perturbation]:
    """Return the changes of an image whose shorter side has so many pixels."""
    shift = max(1, round(side * MAX_SHIFT))

    def shift_pixels(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return image.augment_images(pixels, Augment(shift=shift), generator)

    changes: dict[str, ImageChange] = {
        "shift": shift_pixels,
        "rotate": rotate,
        "noise": add_noise,
        "brightness": change_brightness,
    }
    return {name: perturb_file(change) for name, change in changes.items()}


def rotate(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotate by a random angle."""
    return image.augment_images(pixels, Augment(rotate=MAX_ROTATION), generator)


def add_noise(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add Gaussian noise."""
    return pixels + NOISE_LEVEL * torch.randn(pixels.shape, generator=generator)


def change_brightness(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Make the image brighter or darker."""
    sign = 2 * torch.randint(2, (1,), generator=generator) - 1
    return pixels * (1 + BRIGHTNESS_CHANGE * sign)


def perturb_file(change: ImageChange) -> Perturbation:
    """Turn a change of pixels, shape [1, channels, height, width], into one of a file's bytes.

    The changed file is a BMP, which costs little to write.
    """

    def perturb(row: bytes, generator: random.Random) -> bytes:
        pixels = torch.from_numpy(image.decode_images([row])).float()
        torch_generator = torch.Generator().manual_seed(generator.getrandbits(32))
        changed = change(pixels, torch_generator)[0].round().clamp(0, 255).byte()
        buffer = io.BytesIO()
        Image.fromarray(changed.permute(1, 2, 0).numpy().squeeze()).save(buffer, "BMP")
        return buffer.getvalue()

    return perturb


def build_table_perturbations(std_by_column: dict[str, float]) -> dict[str, Perturbation]:
    """Return the changes of a table's row, given the standard deviation of its numbers."""

    def remove_cells(row: JsonObject, generator: random.Random) -> JsonObject:
        return {
            name: None if generator.random() < MISSING_CELL_RATE else cell
            for name, cell in row.items()
        }

    def jitter_numbers(row: JsonObject, generator: random.Random) -> JsonObject:
        moved = {
            name: tabular.parse_number(row[name]) + generator.gauss(0, JITTER_STD) * std
            for name, std in std_by_column.items()
            if row.get(name) is not None
        }
        return row | moved

    return {"missing": remove_cells, "jitter": jitter_numbers}
