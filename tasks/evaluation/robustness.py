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
from tasks.evaluation.base import Case, Found
from tasks.evaluation.rendering import pair
from tasks.modalities import image, tabular
from tasks.problems.base import Problem
from tasks.recipe.train import Augment
from tasks.statistics import intervals
from tasks.statistics.array_types import Floats
from tasks.statistics.intervals import share

ROWS = 100  # of the test split, drawn at random
NEAR = 0.1  # standard deviations of the targets
TYPOS, LETTERS, LEFT = (
    0.08,
    0.1,
    0.75,
)  # of pairs of letters that change places, of letters with a look-alike, and of a text that is left: shares
SIDE, ANGLE, GREY, LIGHT = (
    1 / 8,
    15.0,
    13.0,
    0.2,
)  # the furthest shift, as a share of the side; the most degrees; levels of 255; a share of the brightness
CELLS, SPREADS = (
    0.1,
    0.1,
)  # the share of cells that go missing; standard deviations of a column by which its numbers move
ALIKE = str.maketrans("aceiopsxyABCEHIKMOPTX", "асеіорѕхуАВСЕНІКМОРТХ")

Change = Callable[[Any, random.Random], Any]


def drawn(change: Callable[[torch.Tensor, torch.Generator], torch.Tensor]) -> Change:
    """A change of an image as numbers of shape (1, channels, height, width), from file to file; of a kind that costs little to write."""

    def changed(row: bytes, rng: random.Random) -> bytes:
        found = change(
            torch.from_numpy(image.pixels([row])).float(),
            torch.Generator().manual_seed(rng.getrandbits(32)),
        )
        Image.fromarray(
            found[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy().squeeze()
        ).save(buffer := io.BytesIO(), "BMP")
        return buffer.getvalue()

    return changed


def changes(case: Case) -> dict[str, Change]:
    """The ways in which an input of this modality may change, by name."""
    spreads = {
        column["name"]: column["spread"]
        for column in getattr(case.predictor, "columns", [])
        if column["kind"] == "number"
    }
    reach = max(1, round(min(getattr(case.predictor, "shape", [0])[1:], default=0) * SIDE))
    texts: dict[str, Callable[[str, random.Random], str]] = {
        "typos": lambda text, rng: re.sub(
            r"(?<=\w)(\w)(\w)(?=\w)",
            lambda two: two[2] + two[1] if rng.random() < TYPOS else two[0],
            text,
        ),
        "case": lambda text, rng: text.swapcase(),
        "punctuation": lambda text, rng: text.translate(str.maketrans("", "", string.punctuation)),
        "white_space": lambda text, rng: re.sub(
            " ", lambda _: rng.choice(("  ", "\n", "\t", "\u00a0")), text
        ),
        "look_alikes": lambda text, rng: "".join(
            letter.translate(ALIKE) if rng.random() < LETTERS else letter for letter in text
        ),
        "truncation": lambda text, rng: text[: round(len(text) * LEFT)],
    }
    images = {
        "shift": drawn(lambda pixels, rng: image.moved(pixels, Augment(shift=reach), rng)),
        "rotate": drawn(lambda pixels, rng: image.moved(pixels, Augment(rotate=ANGLE), rng)),
        "noise": drawn(
            lambda pixels, rng: pixels + GREY * torch.randn(pixels.shape, generator=rng)
        ),
        "brightness": drawn(
            lambda pixels, rng: (
                pixels * (1 + LIGHT * (2 * torch.randint(2, (1,), generator=rng) - 1))
            )
        ),
    }
    tables: dict[str, Change] = {
        "missing": lambda row, rng: {
            name: None if rng.random() < CELLS else cell for name, cell in row.items()
        },
        "jitter": lambda row, rng: (
            row
            | {
                name: tabular.number(row[name]) + rng.gauss(0, SPREADS) * spread
                for name, spread in spreads.items()
                if row.get(name) is not None
            }
        ),
    }
    return {"text": texts, "image": images, "tabular": tables}[case.recipe.modality]


def kept(problem: Problem, before: Floats, after: Floats, spread: float) -> Any:
    if problem.NAME == "classification":
        return before.argmax(1) == after.argmax(1)
    return (
        ((before >= 0.5) == (after >= 0.5)).all(1)
        if problem.NAME == "multilabel"
        else np.abs(before - after)[:, 0] <= NEAR * spread
    )


def measure(case: Case) -> Found | None:
    problem, section, metrics, shown = case.problem, case.recipe.evaluate, dict[str, Any](), []
    if problem.NAME == "language":
        return None
    picked = sorted(
        random.Random(section.seed).sample(range(len(case.rows)), min(ROWS, len(case.rows)))  # noqa: S311
    )
    rows, targets, before, metric = (
        [case.rows[row] for row in picked],
        case.targets[picked],
        case.answers[picked],
        problem.metrics[0],
    )
    spread = float(np.std(problem.targets(case.train))) if problem.NAME == "regression" else 0.0
    for name, change in changes(case).items():
        rng = random.Random(f"{section.seed}-{name}")  # noqa: S311
        changed = [
            change(row, rng) or row for row in rows
        ]  # a text that nothing is left of stays as it is
        after = modalities.predict(case.predictor, changed)
        same = kept(problem, before, after, spread)
        metrics[name] = {
            "kept": share(same, section),
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
        said = problem.columns(
            targets[[at, at]],
            dict.fromkeys(("model", "baseline"), np.stack([before[at], after[at]])),
        )["predicted"].to_pylist()
        shown.append({"name": name, "sides": pair(rows[at], changed[at]), "said": said})
    return Found(
        metrics,
        {
            "metric": metric,
            "plain": problem.measure(targets, before)[metric],
            "rows": len(rows),
            "examples": shown,
        },
    )
