"""Robustness: what becomes of the exported model's answers when its inputs change in ways that leave their labels as they are.

A changed row keeps its answer where the same class or the same labels are said, or a number less than a tenth of the targets' standard deviation away.
"""

import io
import random
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks import modalities, problems
from tasks.evaluation import Case, Found, examples
from tasks.modalities import tabular
from tasks.modalities.image import pixels
from tasks.problems import Floats, Problem
from tasks.recipe import Evaluate

ROWS = 200  # of the test split, drawn at random
NEAR = 0.1  # standard deviations of the targets
WORDS, LETTERS, CUT = 0.2, 0.1, 0.25  # shares: of words with a typo, of letters with a look-alike, and of words that are cut off at the end
SIDE, ANGLE, GREY, LIGHT = 1 / 12, 10.0, 13.0, 0.2  # a shift, as a share of the side; degrees; levels of 255; share of the brightness
CELLS, SPREADS = 0.1, 0.1  # the share of cells that go missing; standard deviations of a column by which its numbers move
ALIKE = str.maketrans("aceiopsxyABCEHIKMOPTX", "асеіорѕхуАВСЕНІКМОРТХ")  # noqa: RUF001  Latin letters, and Cyrillic ones that look the same

Change = Callable[[Any, random.Random], Any]


def typos(text: str, rng: random.Random) -> str:
    """Two neighbouring letters inside a word change places."""
    words = text.split(" ")
    for place, word in enumerate(words):
        if len(word) > 3 and rng.random() < WORDS:
            at = rng.randrange(1, len(word) - 2)
            words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


def truncation(text: str, rng: random.Random) -> str:
    words = text.split()
    return " ".join(words[: max(1, round(len(words) * (1 - CUT)))])


def seen(change: Callable[[Floats, random.Random], Any]) -> Change:
    """A change of an image as numbers of shape (channels, height, width), from file to file; of a kind that costs little to write."""

    def changed(row: bytes, rng: random.Random) -> bytes:
        from PIL import Image

        image = np.clip(np.rint(change(pixels([row])[0].astype(np.float64), rng)), 0, 255).astype(np.uint8)
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer := io.BytesIO(), "BMP")
        return buffer.getvalue()

    return changed


def shift(image: Floats, rng: random.Random) -> Any:
    from scipy import ndimage

    reach = max(1, round(min(image.shape[1:]) * SIDE))
    way = rng.choice([(down, right) for down in (-reach, 0, reach) for right in (-reach, 0, reach) if down or right])
    return ndimage.shift(image, (0, *way), order=1, mode="nearest")


def rotate(image: Floats, rng: random.Random) -> Any:
    from scipy import ndimage

    return ndimage.rotate(image, rng.choice((-ANGLE, ANGLE)), axes=(2, 1), reshape=False, order=1, mode="nearest")


def noise(image: Floats, rng: random.Random) -> Any:
    return image + np.random.default_rng(rng.getrandbits(32)).normal(0, GREY, image.shape)


def missing(row: tabular.Row, rng: random.Random) -> tabular.Row:
    return {name: None if rng.random() < CELLS else cell for name, cell in row.items()}


def jitter(columns: Sequence[tabular.Column]) -> Change:
    spreads = {column["name"]: column["spread"] for column in columns if column["kind"] == "number"}

    def changed(row: tabular.Row, rng: random.Random) -> tabular.Row:
        moved = {name: tabular.number(row.get(name)) + rng.gauss(0, SPREADS) * spread for name, spread in spreads.items()}
        return row | {name: value for name, value in moved.items() if np.isfinite(value)}

    return changed


def changes(case: Case) -> dict[str, Change]:
    """The ways in which an input of this modality may change, by name."""
    known: dict[str, dict[str, Change]] = {
        "text": {
            "typos": typos,
            "case": lambda text, rng: text.swapcase(),
            "punctuation": lambda text, rng: text.translate(str.maketrans("", "", string.punctuation)),
            "white_space": lambda text, rng: "".join(rng.choice(("  ", "\n", "\t", "\u00a0")) if letter == " " else letter for letter in text),
            "look_alikes": lambda text, rng: "".join(letter.translate(ALIKE) if rng.random() < LETTERS else letter for letter in text),
            "truncation": truncation,
        },
        "image": {
            "shift": seen(shift),
            "rotate": seen(rotate),
            "noise": seen(noise),
            "brightness": seen(lambda image, rng: image * rng.choice((1 - LIGHT, 1 + LIGHT))),
        },
        "tabular": {"missing": missing, "jitter": jitter(getattr(case.predictor, "columns", []))},
    }
    return known[case.recipe.modality]


def kept(problem: Problem, before: Floats, after: Floats, spread: float) -> Any:
    if problem.NAME == "classification":
        return before.argmax(1) == after.argmax(1)
    return ((before >= 0.5) == (after >= 0.5)).all(1) if problem.NAME == "multilabel" else np.abs(before - after)[:, 0] <= NEAR * spread


def share(flags: Any, section: Evaluate) -> dict[str, float]:
    """The share of rows of which something is true, with its bootstrap interval."""
    numbers = np.asarray(flags, float)
    drawn = np.concatenate([weights @ numbers for weights in problems.resampled(len(numbers), section)]) / len(numbers)
    return problems.interval(float(numbers.mean()), drawn, section)


def measure(case: Case) -> Found | None:
    problem, section = case.problem, case.recipe.evaluate
    if problem.NAME == "language":
        return None
    drawn = sorted(random.Random(section.seed).sample(range(len(case.rows)), min(ROWS, len(case.rows))))  # noqa: S311  not for secrets
    rows, targets, before = [case.rows[row] for row in drawn], case.targets[drawn], case.answers[drawn]
    spread = float(np.std(problem.targets(case.train))) if problem.NAME == "regression" else 0.0
    metric, metrics, shown = problem.metrics[0], dict[str, Any](), []
    for name, change in changes(case).items():
        rng = random.Random(f"{section.seed}-{name}")  # noqa: S311
        changed = [change(row, rng) for row in rows]
        after = modalities.predict(case.predictor, changed)
        same = kept(problem, before, after, spread)
        metrics[name] = {"kept": share(same, section), metric: round(problem.measure(targets, after)[metric], problems.DIGITS)}
        differs = [row != other for row, other in zip(rows, changed, strict=True)]
        at = int(np.argmax(np.array(differs) * 2 - same))  # one whose answer changed, if there is any
        said = problem.columns(targets[[at, at]], dict.fromkeys(("model", "baseline"), np.stack([before[at], after[at]])))["predicted"].to_pylist()
        shown.append({"name": name, "sides": examples.pair(rows[at], changed[at]), "said": said})
    return Found(metrics, {"metric": metric, "plain": problem.measure(targets, before)[metric], "rows": len(rows), "examples": shown})
