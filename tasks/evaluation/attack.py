"""Attack: how little the inputs of a classifier have to change for it to be wrong, where the change is made by someone who knows the network.

The fast gradient method (FGSM, Goodfellow et al. 2015) goes one step of the whole strength, projected gradient descent (PGD, Madry et al. 2018) several shorter
ones. Each pixel, or number of a table, may change by the strength; of a text all embeddings together, by Euclidean length (Miyato et al. 2017). The strongest
attack comes first: a row that withstands it is taken to withstand weaker ones.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from torch.nn.functional import cross_entropy

from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.differentiable import DifferentiableBatch, DifferentiableModel
from tasks.evaluation.rendering import MAX_CELLS, render_difference, render_image
from tasks.modalities import tabular
from tasks.statistics.intervals import proportion_interval

MAX_INPUT_NUMBERS = 400_000  # in the inputs of the rows that are attacked, at most 200: some 20 texts, or all rows of a table
ATTACK_METHODS = {
    "fgsm": (1, 1.0),
    "pgd": (5, 0.4),
}  # steps, and the length of each as a share of the strength
MAX_EXAMPLES, N_BISECTIONS = (
    4,
    4,
)  # rows of which the smallest change is sought, and how often its bounds are brought together


class PerturbationSpace(NamedTuple):
    """In what inputs may move: the strengths that are tried, in a unit of so many of the network's own, and the bounds of each number."""

    strengths: tuple[int, ...]
    unit: str
    size: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    mask: torch.Tensor | float = 1.0  # 0 for features that are no numbers
    euclidean: bool = False


def build_perturbation_space(
    case: EvaluationContext, inside: DifferentiableModel
) -> PerturbationSpace | None:
    if inside.embeddings:
        length = float(inside.embeddings.weight.norm(dim=1).mean())
        return PerturbationSpace(
            (0, 5, 20, 50),
            "hundredths of the length of a token's vector",
            length / 100,
            euclidean=True,
        )
    if not inside.columns:
        return PerturbationSpace((0, 2, 4, 8, 16, 32), "levels of 255", 1.0, (0.0, 255.0))
    mask = torch.zeros(inside.columns[-1][1].stop)
    mask[[place.start for column, place in inside.columns if column["kind"] == "number"]] = 1
    unit = "hundredths of a column's standard deviation"
    return (
        PerturbationSpace(
            (0, 5, 10, 20, 50, 100), unit, 0.01, (-tabular.CLIP_STD, tabular.CLIP_STD), mask
        )
        if mask.any()
        else None
    )


def attack_batch(
    inside: DifferentiableModel,
    space: PerturbationSpace,
    batch: DifferentiableBatch,
    targets: torch.Tensor,
    strengths: Any,
    method: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs, each row changed by at most its strength, and which of them are answered wrongly then; a row is left as soon as it is."""
    one = (-1, *[1] * (batch.inputs.dim() - 1))  # the shape of a number for each row

    def length(change: torch.Tensor) -> Any:
        return change.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(one)

    moved, wrong = batch.inputs.clone(), torch.zeros(len(targets), dtype=torch.bool)
    radius = (
        torch.as_tensor(strengths, dtype=torch.float32).expand(len(targets)).reshape(one)
        * space.size
    )
    steps, pace = ATTACK_METHODS[method] if radius.any() else (0, 0.0)
    for step in range(steps + 1):
        at = (~wrong).nonzero()[:, 0]
        now, most = moved[at].requires_grad_(step < steps), radius[at]
        said = (
            inside.outputs(now, *(part[at] for part in batch.rest)) if len(at) else now.flatten(1)
        )
        wrong[at] = said.argmax(1) != targets[at]
        if step < steps and len(at):
            (gradient,) = torch.autograd.grad(
                cross_entropy(said, targets[at], reduction="sum"), now
            )
            way = (gradient / length(gradient) if space.euclidean else gradient.sign()) * space.mask
            change = now.detach() + pace * most * way - batch.inputs[at]
            change = (
                change * (most / length(change)).clamp(max=1)
                if space.euclidean
                else change.clamp(-most, most)
            )
            moved[at] = torch.where(
                wrong[at].reshape(one),
                now.detach(),
                (batch.inputs[at] + change).clamp(*space.bounds),
            )
    return moved, wrong


def render_change(
    inside: DifferentiableModel, row: Any, before: torch.Tensor, after: torch.Tensor
) -> tuple[Markup, Markup]:
    """What changed: an image before and after, the tokens of a text by how far they moved, or the columns of a table that moved most."""
    if isinstance(row, bytes):
        return render_image(before), render_image(after.round())
    if isinstance(row, str):
        return inside.tokens(row, (after - before).norm(dim=1).tolist()), Markup()
    places = sorted(
        (-abs(float((after - before)[place.start])), place.start, column)
        for column, place in inside.columns
        if column["kind"] == "number"
    )
    return render_difference(
        *(
            {
                column["name"]: column["mean"] + column["spread"] * float(side[at])
                for _, at, column in places[:MAX_CELLS]
            }
            for side in (before, after)
        )
    )


def measure(case: EvaluationContext) -> AspectResult | None:
    if case.problem.NAME != "classification":
        return None
    inside, names = DifferentiableModel(case.trained), case.problem.labels
    if (field := build_perturbation_space(case, inside)) is None:  # a table without numbers
        return None
    drawn, strengths = (
        inside.drawn(case.rows, MAX_INPUT_NUMBERS, case.recipe.evaluate.seed),
        np.array(field.strengths),
    )
    rows, targets = [case.rows[row] for row in drawn], torch.from_numpy(case.targets[drawn])
    withstood = {
        method: np.full(len(rows), -1) for method in ATTACK_METHODS
    }  # the place of the strongest attack that each row withstands
    for whole in inside.batches(rows):
        for method, found in withstood.items():
            batch = whole
            for place in reversed(range(len(strengths))):
                _, wrong = attack_batch(
                    inside, field, batch, targets[batch.rows], strengths[place], method
                )
                found[np.array(batch.rows, int)[~wrong.numpy()]] = place
                batch = batch.of(wrong.nonzero()[:, 0])
    metrics = {
        method: {
            str(strength): proportion_interval(found >= place, case.recipe.evaluate)
            for place, strength in enumerate(field.strengths)
        }
        for method, found in withstood.items()
    }
    places, shown = withstood["pgd"], []
    flipped = np.flatnonzero((places >= 0) & (places < len(strengths) - 1))[:MAX_EXAMPLES]
    for batch in inside.batches([rows[row] for row in flipped]):
        picked = flipped[batch.rows]
        low, high, best = (
            strengths[places[picked]] * 1.0,
            strengths[places[picked] + 1] * 1.0,
            batch.inputs.clone(),
        )
        for halving in range(N_BISECTIONS + 1):
            middle = (low + high) / 2 if halving else high
            moved, wrong = attack_batch(inside, field, batch, targets[picked], middle, "pgd")
            low, high, best[wrong] = (
                np.where(wrong, low, middle),
                np.where(wrong, middle, high),
                moved[wrong],
            )
        for at, (row, said) in enumerate(
            zip(picked, inside.outputs(best, *batch.rest).argmax(1), strict=True)
        ):
            about = {
                "id": case.test["id"][drawn[row]].as_py(),
                "strength": round(float(high[at]), 1),
                "said": (names[targets[row]], names[said]),
            }
            shown.append(
                {**about, "sides": render_change(inside, rows[row], batch.inputs[at], best[at])}
            )
    return AspectResult(metrics, {"rows": len(rows), "unit": field.unit, "examples": shown})
