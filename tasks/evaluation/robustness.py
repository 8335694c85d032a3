"""Robustness: what becomes of the exported model's answers when its inputs change in ways that leave their labels as they are.

A changed row keeps its answer where the same class or the same labels are said, or a number less than a tenth of the targets' standard deviation away.
"""

import io
import random
import re
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from tasks import modalities
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
TYPO_RATE, LOOK_ALIKE_RATE, TRUNCATED_LENGTH = (
    0.08,
    0.1,
    0.75,
)  # of pairs of letters that change places, of letters with a look-alike, and of a text that is left: shares
MAX_SHIFT, MAX_ROTATION, NOISE_LEVEL, BRIGHTNESS_CHANGE = (
    1 / 8,
    15.0,
    13.0,
    0.2,
)  # the furthest shift, as a share of the side; the most degrees; levels of 255; a share of the brightness
MISSING_CELL_RATE, JITTER_STD = (
    0.1,
    0.1,
)  # the share of cells that go missing; standard deviations of a column by which its numbers move
LOOK_ALIKES = str.maketrans("aceiopsxyABCEHIKMOPTX", "асеіорѕхуАВСЕНІКМОРТХ")

Perturbation = Callable[[Any, random.Random], Any]


def build_image_perturbation(
    change: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
) -> Perturbation:
    """A change of an image as numbers of shape (1, channels, height, width), from file to file; of a kind that costs little to write."""

    def changed(row: bytes, rng: random.Random) -> bytes:
        found = change(
            torch.from_numpy(image.decode_images([row])).float(),
            torch.Generator().manual_seed(rng.getrandbits(32)),
        )
        Image.fromarray(
            found[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy().squeeze()
        ).save(buffer := io.BytesIO(), "BMP")
        return buffer.getvalue()

    return changed


def build_perturbations(case: EvaluationContext) -> dict[str, Perturbation]:
    """The ways in which an input of this modality may change, by name."""
    spreads = {
        column["name"]: column["spread"]
        for column in getattr(case.predictor, "columns", [])
        if column["kind"] == "number"
    }
    reach = max(1, round(min(getattr(case.predictor, "shape", [0])[1:], default=0) * MAX_SHIFT))
    texts: dict[str, Callable[[str, random.Random], str]] = {
        "typos": lambda text, rng: re.sub(
            r"(?<=\w)(\w)(\w)(?=\w)",
            lambda two: two[2] + two[1] if rng.random() < TYPO_RATE else two[0],
            text,
        ),
        "case": lambda text, rng: text.swapcase(),
        "punctuation": lambda text, rng: text.translate(str.maketrans("", "", string.punctuation)),
        "white_space": lambda text, rng: re.sub(
            " ", lambda _: rng.choice(("  ", "\n", "\t", "\u00a0")), text
        ),
        "look_alikes": lambda text, rng: "".join(
            letter.translate(LOOK_ALIKES) if rng.random() < LOOK_ALIKE_RATE else letter
            for letter in text
        ),
        "truncation": lambda text, rng: text[: round(len(text) * TRUNCATED_LENGTH)],
    }
    images = {
        "shift": build_image_perturbation(
            lambda pixels, rng: image.augment_images(pixels, Augment(shift=reach), rng)
        ),
        "rotate": build_image_perturbation(
            lambda pixels, rng: image.augment_images(pixels, Augment(rotate=MAX_ROTATION), rng)
        ),
        "noise": build_image_perturbation(
            lambda pixels, rng: pixels + NOISE_LEVEL * torch.randn(pixels.shape, generator=rng)
        ),
        "brightness": build_image_perturbation(
            lambda pixels, rng: (
                pixels * (1 + BRIGHTNESS_CHANGE * (2 * torch.randint(2, (1,), generator=rng) - 1))
            )
        ),
    }
    tables: dict[str, Perturbation] = {
        "missing": lambda row, rng: {
            name: None if rng.random() < MISSING_CELL_RATE else cell for name, cell in row.items()
        },
        "jitter": lambda row, rng: (
            row
            | {
                name: tabular.parse_number(row[name]) + rng.gauss(0, JITTER_STD) * spread
                for name, spread in spreads.items()
                if row.get(name) is not None
            }
        ),
    }
    return {"text": texts, "image": images, "tabular": tables}[case.recipe.modality]


def find_kept_answers(problem: Problem, before: Floats, after: Floats, spread: float) -> Any:
    if problem.NAME == "classification":
        return before.argmax(1) == after.argmax(1)
    return (
        ((before >= 0.5) == (after >= 0.5)).all(1)
        if problem.NAME == "multilabel"
        else np.abs(before - after)[:, 0] <= TOLERANCE_STD * spread
    )


def measure(case: EvaluationContext) -> AspectResult | None:
    problem, section, metrics, shown = case.problem, case.recipe.evaluate, dict[str, Any](), []
    if problem.NAME == "language":
        return None
    picked = sorted(
        random.Random(section.seed).sample(range(len(case.rows)), min(MAX_ROWS, len(case.rows)))  # noqa: S311
    )
    rows, targets, before, metric = (
        [case.rows[row] for row in picked],
        case.targets[picked],
        case.answers[picked],
        problem.metrics[0],
    )
    spread = float(np.std(problem.targets(case.train))) if problem.NAME == "regression" else 0.0
    for name, change in build_perturbations(case).items():
        rng = random.Random(f"{section.seed}-{name}")  # noqa: S311
        changed = [
            change(row, rng) or row for row in rows
        ]  # a text that nothing is left of stays as it is
        after = modalities.predict(case.predictor, changed)
        same = find_kept_answers(problem, before, after, spread)
        metrics[name] = {
            "kept": proportion_interval(same, section),
            metric: round(problem.measure(targets, after)[metric], intervals.DIGITS),
        }
        at = int(
            np.argmax(
                [
                    2 * (row != other) - stays
                    for row, other, stays in zip(rows, changed, same, strict=True)
                ]
            )
        )  # best one whose answer changed
        said = problem.prediction_columns(
            targets[[at, at]],
            dict.fromkeys(("model", "baseline"), np.stack([before[at], after[at]])),
        )["predicted"].to_pylist()
        shown.append(
            {"name": name, "sides": render_difference(rows[at], changed[at]), "said": said}
        )
    return AspectResult(
        metrics,
        {
            "metric": metric,
            "plain": problem.measure(targets, before)[metric],
            "rows": len(rows),
            "examples": shown,
        },
    )
