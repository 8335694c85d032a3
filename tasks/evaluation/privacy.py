"""Privacy: what the model reveals of the rows that it was trained on.

`membership_auc` is how well a row's loss tells whether it was among them (membership inference by
a threshold on the loss, Yeom et al. 2018); 0.5 reveals nothing.

For a model that writes, `memorized` is the fraction of its texts with MEMORIZED_CHARACTERS
consecutive characters of a training text (in the manner of Carlini et al. 2021), and
`memorized_by_people` the same fraction of what people, who have not seen the training texts, wrote
after the same prompts.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks import modalities
from tasks.contracts.base import JsonObject
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.problems.base import Problem, Targets
from tasks.recipe.evaluate import Evaluate
from tasks.statistics.array_types import Floats
from tasks.statistics.bootstrap import draw_weights
from tasks.statistics.intervals import percentile_interval, proportion_interval

MAX_ROWS = 1000  # of the training rows, and as many test rows
MEMORIZED_CHARACTERS = 50


def measure(context: EvaluationContext) -> AspectResult:
    """Measure membership inference and, for a model that writes, memorized text."""
    generator = np.random.default_rng(context.config.seed)
    n_rows = min(MAX_ROWS, context.train.num_rows, context.test.num_rows)
    members = np.sort(generator.choice(context.train.num_rows, n_rows, replace=False))
    others = np.sort(generator.choice(context.test.num_rows, n_rows, replace=False))
    member_losses = compute_train_losses(context, members)
    other_losses = compute_row_losses(
        context.problem, context.targets[others], context.answers[others]
    )
    auc, samples = bootstrap_membership_auc(member_losses, other_losses, context.config)
    metrics = {"membership_auc": percentile_interval(auc, samples, context.config)}
    if context.continuations:
        metrics |= measure_memorization(context)
    report = {
        "rows": n_rows,
        "run": MEMORIZED_CHARACTERS,
        "samples": len(context.continuations),
    }
    return AspectResult(metrics, report)


def measure_memorization(context: EvaluationContext) -> JsonObject:
    """Return the fractions of texts by the model, and by people, that repeat a training text."""
    train_inputs = modalities.extract_inputs(context.recipe, context.train)
    train_texts = [row["text"] for row in train_inputs]
    by_model = [item["predicted"] for item in context.continuations]
    by_people = [item["text"] for item in context.continuations]
    return {
        name: proportion_interval(find_memorized(texts, train_texts), context.config)
        for name, texts in (("memorized", by_model), ("memorized_by_people", by_people))
    }


def compute_train_losses(context: EvaluationContext, rows: NDArray[np.int64]) -> Floats:
    """Return the losses of some training rows, shape [rows]."""
    table = context.train.take(rows)
    inputs = modalities.extract_inputs(context.recipe, table)
    answers = modalities.predict(context.predictor, inputs)
    return compute_row_losses(context.problem, context.problem.targets(table), answers)


def compute_row_losses(problem: Problem, targets: Targets, answers: Floats) -> Floats:
    """Return each row's loss as predictions.parquet has it; of a text, the mean over its tokens."""
    columns = problem.prediction_columns(targets, {"model": answers, "baseline": answers})
    n_tokens = np.array(columns.get("tokens", 1), np.float64)
    return np.array(columns["loss"], np.float64) / n_tokens


def bootstrap_membership_auc(
    members: Floats, others: Floats, config: Evaluate
) -> tuple[float, Floats]:
    """Return the chance that a member's loss is below another row's, ties counting half.

    Args:
        members: The losses of training rows, shape [rows].
        others: The losses of test rows, shape [rows].
        config: The seed and number of resamples; each side is resampled on its own.

    Returns:
        The chance, and its values in the resamples, shape [resamples].
    """
    is_below = (members[:, None] < others).astype(np.float64)
    wins = is_below + (members[:, None] == others) / 2  # [members, others]
    other_config = config.model_copy(update={"seed": config.seed + 1})
    weights = zip(
        draw_weights(len(members), config), draw_weights(len(others), other_config), strict=True
    )
    parts = [((of_members @ wins) * of_others).sum(1) for of_members, of_others in weights]
    return float(wins.mean()), np.concatenate(parts) / wins.size


def find_memorized(
    outputs: Sequence[str], texts: Iterable[str], run: int = MEMORIZED_CHARACTERS
) -> NDArray[np.bool_]:
    """Return which outputs hold `run` consecutive characters of one of the texts.

    Such a run holds a whole block of the text, if the text is cut into blocks of half its length.
    """
    half = run // 2
    is_memorized = np.zeros(len(outputs), bool)
    places = index_substrings(outputs, half)
    for text in texts:
        for start in range(0, len(text) - half + 1, half):
            for number, position in places.get(text[start : start + half], ()):
                longest_lead = min(position, start, run - half)
                is_memorized[number] |= any(
                    len(piece) == run and outputs[number].startswith(piece, position - lead)
                    for lead, piece in iter_runs(text, start, longest_lead, run)
                )
    return is_memorized


def index_substrings(texts: Sequence[str], length: int) -> dict[str, list[tuple[int, int]]]:
    """Return where each substring of this length stands: (number of the text, position)."""
    places: dict[str, list[tuple[int, int]]] = {}
    for number, text in enumerate(texts):
        for position in range(len(text) - length + 1):
            places.setdefault(text[position : position + length], []).append((number, position))
    return places


def iter_runs(text: str, start: int, longest_lead: int, run: int) -> Iterator[tuple[int, str]]:
    """Yield the runs that hold the block at `start`, with how much of each lies before it."""
    for lead in range(longest_lead + 1):
        yield lead, text[start - lead : start - lead + run]
