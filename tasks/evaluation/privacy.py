"""Privacy: what the model gives away of the rows that it was trained on.

membership_auc is how well the loss of a row tells whether it was among them (membership inference by a threshold on the loss, Yeom et al. 2018): 0.5 is nothing.
Of a model that writes, `copied` is the share of its texts in which RUN characters in a row are those of a training text (in the manner of Carlini et al. 2021),
and `copied_people` the same share of what people wrote after the same prompts, who have not seen the training texts.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks import modalities
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.problems.base import Problem, Targets
from tasks.recipe.evaluate import Evaluate
from tasks.statistics.array_types import Floats
from tasks.statistics.bootstrap import draw_weights
from tasks.statistics.intervals import percentile_interval, proportion_interval

MAX_ROWS = 1000  # rows of each side
MEMORIZED_CHARACTERS = 50  # characters


def measure(case: EvaluationContext) -> AspectResult:
    rng, section = np.random.default_rng(case.recipe.evaluate.seed), case.recipe.evaluate
    count = min(MAX_ROWS, case.train.num_rows, case.test.num_rows)
    inside, outside = (
        np.sort(rng.choice(rows, count, replace=False))
        for rows in (case.train.num_rows, case.test.num_rows)
    )
    seen = case.train.take(inside)
    answers = modalities.predict(case.predictor, modalities.extract_inputs(case.recipe, seen))
    known, new = (
        compute_row_losses(case.problem, case.problem.targets(seen), answers),
        compute_row_losses(case.problem, case.targets[outside], case.answers[outside]),
    )
    point, drawn = bootstrap_membership_auc(known, new, section)
    metrics = {"membership_auc": percentile_interval(point, drawn, section)}
    if case.samples:
        texts = [row["text"] for row in modalities.extract_inputs(case.recipe, case.train)]
        for name, part in (("copied", "said"), ("copied_people", "text")):
            metrics[name] = proportion_interval(
                find_memorized([sample[part] for sample in case.samples], texts), section
            )
    return AspectResult(
        metrics, {"rows": count, "run": MEMORIZED_CHARACTERS, "samples": len(case.samples)}
    )


def compute_row_losses(problem: Problem, targets: Targets, answers: Floats) -> Floats:
    """What each row costs, as predictions.parquet has it; of a text, the mean over its tokens."""
    told = problem.prediction_columns(targets, {"model": answers, "baseline": answers})
    return np.array(told["loss"], np.float64) / np.array(told.get("tokens", 1), np.float64)


def bootstrap_membership_auc(known: Floats, new: Floats, section: Evaluate) -> tuple[float, Floats]:
    """The chance that a row of training costs less than a new one, ties counting half, of all rows and in resamples of each side."""
    wins = (known[:, None] < new).astype(np.float64) + (known[:, None] == new) / 2
    other = section.model_copy(update={"seed": section.seed + 1})
    parts = [
        ((mine @ wins) * theirs).sum(1)
        for mine, theirs in zip(
            draw_weights(len(known), section), draw_weights(len(new), other), strict=True
        )
    ]
    return float(wins.mean()), np.concatenate(parts) / wins.size


def find_memorized(
    outputs: Sequence[str], texts: Iterable[str], run: int = MEMORIZED_CHARACTERS
) -> NDArray[np.bool_]:
    """Which outputs hold `run` characters in a row of one of the texts. Such a run holds a whole block of the text, cut into blocks of half its length."""
    half, found = run // 2, np.zeros(len(outputs), bool)
    places: dict[str, list[tuple[int, int]]] = {}
    for number, said in enumerate(outputs):
        for at in range(len(said) - half + 1):
            places.setdefault(said[at : at + half], []).append((number, at))
    for text in texts:
        for block in range(0, len(text) - half + 1, half):
            for number, at in places.get(text[block : block + half], ()):
                for by in range(
                    min(at, block, run - half) + 1
                ):  # how much of the run may lie before this block
                    same = text[block - by : block - by + run]
                    found[number] |= len(same) == run and outputs[number].startswith(same, at - by)
    return found
