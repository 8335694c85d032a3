"""Attack: how little the inputs of a classifier have to change for it to be wrong, where the change is made by someone who knows the network.

The fast gradient method (FGSM, Goodfellow et al. 2015) goes one step of the whole strength, projected gradient descent (PGD, Madry et al. 2018) several shorter
ones. Each pixel, or number of a table, may change by the strength; of a text all embeddings together, by Euclidean length (Miyato et al. 2017). The strongest
attack comes first: a row that withstands it is taken to withstand weaker ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from torch.nn.functional import cross_entropy

from tasks.evaluation import Case, Found, examples
from tasks.evaluation.inside import Batch, Inside
from tasks.evaluation.robustness import share
from tasks.modalities import tabular

NUMBERS = 800_000  # in the inputs of the rows that are attacked, at most 200: some forty texts, or all rows of a table
METHODS = {"fgsm": (1, 1.0), "pgd": (5, 0.4)}  # steps, and the length of each as a share of the strength
SHOWN, HALVINGS = 4, 5  # rows of which the smallest change is sought, and how often its bounds are brought together
MOST = 6  # columns of a table that are shown


@dataclass(frozen=True)
class Space:
    """In what inputs may move: the strengths that are tried, in a unit of so many of the network's own, and the bounds of each number."""

    strengths: tuple[int, ...]
    unit: str
    size: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    mask: torch.Tensor | float = 1.0  # 0 for features that are no numbers
    euclidean: bool = False


def space(case: Case, inside: Inside) -> Space:
    if case.recipe.modality == "text":
        length = float(inside.embeddings.weight.detach().norm(dim=1).mean())
        return Space((5, 10, 20, 50), "hundredths of the length of a token's vector", length / 100, euclidean=True)
    if case.recipe.modality == "image":
        return Space((2, 4, 8, 16, 32), "levels of 255", 1.0, (0.0, 255.0))
    mask = torch.zeros(max(place.stop for _, place in inside.columns()))
    mask[[place.start for column, place in inside.columns() if column["kind"] == "number"]] = 1
    return Space((5, 10, 20, 50, 100), "hundredths of a column's standard deviation", 0.01, (-tabular.FAR, tabular.FAR), mask)


def attacked(
    inside: Inside, space: Space, batch: Batch, targets: torch.Tensor, strengths: torch.Tensor, steps: int, pace: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs, each row changed by at most its strength, and which of them are answered wrongly then; a row is left as soon as it is."""
    inputs, wrong = batch.inputs, torch.zeros(len(targets), dtype=torch.bool)
    moved, radius = inputs.clone(), (strengths * space.size).reshape(-1, *[1] * (inputs.dim() - 1))
    for step in range(steps + 1):
        at = (~wrong).nonzero()[:, 0]
        if not len(at):
            break
        now = moved[at].requires_grad_(step < steps)
        said = inside.outputs(now, *(part[at] for part in batch.rest))
        wrong[at] = said.argmax(1) != targets[at]
        if step < steps:
            (gradient,) = torch.autograd.grad(cross_entropy(said, targets[at], reduction="sum"), now)
            way = (gradient / length(gradient) if space.euclidean else gradient.sign()) * space.mask
            change = now.detach() + pace * radius[at] * way - inputs[at]
            change = change * (radius[at] / length(change)).clamp(max=1) if space.euclidean else change.clamp(-radius[at], radius[at])
            moved[at] = torch.where(wrong[at].reshape(radius[at].shape), now.detach(), (inputs[at] + change).clamp(*space.bounds))
    return moved, wrong


def length(change: torch.Tensor) -> torch.Tensor:
    """Of each row, such that it can be divided by."""
    found: torch.Tensor = change.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, *[1] * (change.dim() - 1))
    return found


def smallest(inside: Inside, space: Space, batch: Batch, targets: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs changed by the least strength found, by bisection, at which each row is answered wrongly, and that strength. At `high` it is known to be."""
    best = batch.inputs.clone()
    for halving in range(HALVINGS + 1):
        middle = (low + high) / 2 if halving else high
        moved, wrong = attacked(inside, space, batch, targets, middle, *METHODS["pgd"])
        low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
        best[wrong] = moved[wrong]
    return best, high


def told(inside: Inside, row: Any, before: torch.Tensor, after: torch.Tensor) -> tuple[Markup, Markup]:
    """What changed: an image before and after, the tokens of a text by how far they moved, or the columns of a table that moved most."""
    if isinstance(row, bytes):
        return examples.picture(before.byte().numpy()), examples.picture(after.round().byte().numpy())
    if isinstance(row, str):
        return inside.tokens(row, (after - before).norm(dim=1).tolist()), Markup("")
    places = sorted(
        ((column, place.start) for column, place in inside.columns() if column["kind"] == "number"), key=lambda one: -abs(float(after[one[1]] - before[one[1]]))
    )[:MOST]
    sides = ({column["name"]: column["mean"] + column["spread"] * float(side[at]) for column, at in places} for side in (before, after))
    return examples.pair(*sides)


def measure(case: Case) -> Found | None:
    if case.problem.NAME != "classification":
        return None
    inside, section, names = Inside(case.trained), case.recipe.evaluate, case.problem.labels
    field = space(case, inside)
    if not np.any(np.asarray(field.mask)):  # a table without numbers
        return None
    drawn = inside.drawn(case.rows, NUMBERS, section.seed)
    rows, targets = [case.rows[row] for row in drawn], torch.from_numpy(case.targets[drawn])
    strengths, withstood = (0, *field.strengths), {method: np.full(len(rows), -1) for method in METHODS}
    for batch in inside.batches(rows):
        for method, found in withstood.items():
            left = batch
            for strength in reversed(strengths):
                true = targets[left.rows]
                _, wrong = attacked(inside, field, left, true, torch.full((len(true),), float(strength)), *(METHODS[method] if strength else (0, 0.0)))
                found[np.array(left.rows, int)[~wrong.numpy()]] = strength
                left = left.of(wrong.nonzero()[:, 0])
    metrics = {method: {str(strength): share(found >= strength, section) for strength in strengths} for method, found in withstood.items()}
    flipped = np.flatnonzero((withstood["pgd"] >= 0) & (withstood["pgd"] < strengths[-1]))[:SHOWN].tolist()
    shown = []
    for batch in inside.batches([rows[row] for row in flipped]) if flipped else []:
        picked = [flipped[row] for row in batch.rows]
        low = torch.tensor([float(withstood["pgd"][row]) for row in picked])
        high = torch.tensor([float(min(strength for strength in strengths if strength > withstood["pgd"][row])) for row in picked])
        changed, least = smallest(inside, field, batch, targets[picked], low, high)
        said = inside.outputs(changed, *batch.rest).argmax(1)
        for at, row in enumerate(picked):
            sides = told(inside, rows[row], batch.inputs[at], changed[at])
            about = {"id": case.test["id"][drawn[row]].as_py(), "strength": round(float(least[at]), 1), "said": (names[targets[row]], names[said[at]])}
            shown.append({**about, "sides": sides})
    return Found(metrics, {"rows": len(rows), "unit": field.unit, "examples": shown})
