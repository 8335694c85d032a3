"""Attack: how little a classifier's inputs must change for it to err, against a white-box attack.

The fast gradient sign method (FGSM, Goodfellow et al. 2015) takes one step of the whole strength,
projected gradient descent (PGD, Madry et al. 2018) several shorter ones. Each pixel, or number of
a table, may change by the strength; of a text, all embeddings together change by Euclidean length
(Miyato et al. 2017). The strongest attack comes first: a row that withstands it is taken to
withstand weaker ones.

captum.robust offers both attacks with one strength for a whole batch. Here each row has a strength
of its own, which the search for its smallest change needs, and a row is left as soon as it errs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from tasks.contracts.base import JsonObject
from tasks.contracts.model_info import NumberColumn
from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.evaluation.differentiable import DifferentiableBatch, DifferentiableModel, SampleSize
from tasks.evaluation.rendering import MAX_CELLS, render_difference, render_image
from tasks.modalities import tabular
from tasks.statistics.intervals import proportion_interval

# Numbers in the inputs of the attacked rows: some 20 texts, or all rows of a table.
SAMPLE_SIZE = SampleSize(max_numbers=400_000)
MAX_EXAMPLES = 4  # rows whose smallest change is sought
N_BISECTIONS = 4  # of the bounds of that change
MIN_LENGTH = 1e-12


class AttackMethod(NamedTuple):
    """How many steps an attack takes, and the length of each as a fraction of the strength."""

    n_steps: int
    step_length: float


METHODS = {"fgsm": AttackMethod(1, 1.0), "pgd": AttackMethod(5, 0.4)}
NO_STEPS = AttackMethod(0, 0.0)


@dataclass(frozen=True)
class PerturbationSpace:
    """How inputs may change.

    Attributes:
        strengths: The strengths that are tried, from 0 on.
        unit: Their unit, for people.
        unit_size: The unit in the network's own numbers.
        bounds: The smallest and largest allowed input.
        mask: 1 for inputs that may change, 0 for features that are no numbers.
        is_euclidean: Whether the strength limits the length of the whole change, not each number.
    """

    strengths: tuple[int, ...]
    unit: str
    unit_size: float
    bounds: tuple[float, float] = (-np.inf, np.inf)
    mask: torch.Tensor | float = 1.0
    is_euclidean: bool = False


@dataclass(frozen=True)
class Attack:
    """An attack on a model within a space."""

    model: DifferentiableModel
    space: PerturbationSpace
    method: AttackMethod

    def run(
        self, batch: DifferentiableBatch, targets: torch.Tensor, strengths: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change each row by at most its strength until the model errs.

        Args:
            batch: The rows.
            targets: Their classes, shape [rows].
            strengths: A number, or one for each row.

        Returns:
            The changed inputs, and which rows the model then answers wrongly, shape [rows].
        """
        changed = batch.inputs.clone()
        is_wrong = torch.zeros(len(targets), dtype=torch.bool)
        radius = self.radius(batch.inputs, strengths)
        method = self.method if radius.any() else NO_STEPS
        for step in range(method.n_steps + 1):
            is_last = step == method.n_steps
            left = (~is_wrong).nonzero()[:, 0]
            inputs = changed[left].requires_grad_(not is_last)
            outputs = self.outputs(batch, inputs, left)
            is_wrong[left] = outputs.argmax(1) != targets[left]
            if is_last or len(left) == 0:
                continue
            loss = cross_entropy(outputs, targets[left], reduction="sum")
            (gradient,) = torch.autograd.grad(loss, inputs)
            moved = self.step(batch.inputs[left], inputs.detach(), gradient, radius[left])
            changed[left] = torch.where(per_row(is_wrong[left], moved), inputs.detach(), moved)
        return changed, is_wrong

    def radius(self, inputs: torch.Tensor, strengths: Any) -> torch.Tensor:
        """Return the strength of each row in the network's numbers, shape [rows, 1, …]."""
        by_row = torch.as_tensor(strengths, dtype=torch.float32).expand(len(inputs))
        return per_row(by_row, inputs) * self.space.unit_size

    def outputs(
        self, batch: DifferentiableBatch, inputs: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        """Return the model's outputs for some rows of a batch, shape [rows, classes]."""
        if len(rows) == 0:
            return inputs.flatten(1)
        return self.model.outputs(inputs, *(part[rows] for part in batch.rest))

    def step(
        self,
        start: torch.Tensor,
        inputs: torch.Tensor,
        gradient: torch.Tensor,
        radius: torch.Tensor,
    ) -> torch.Tensor:
        """Move the inputs up the gradient, and back into the ball around where they started."""
        space = self.space
        direction = gradient / row_length(gradient) if space.is_euclidean else gradient.sign()
        direction = direction * space.mask
        change = inputs + self.method.step_length * radius * direction - start
        if space.is_euclidean:
            change = change * (radius / row_length(change)).clamp(max=1)
        else:
            change = change.clamp(-radius, radius)
        return (start + change).clamp(*space.bounds)


def per_row(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a number for each row in a shape that broadcasts over a row's inputs."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def row_length(change: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean length of each row, shape [rows, 1, …], never 0."""
    length: torch.Tensor = change.flatten(1).norm(dim=1).clamp(min=MIN_LENGTH)
    return per_row(length, change)


def build_perturbation_space(model: DifferentiableModel) -> PerturbationSpace | None:
    """Return how inputs may change; None for a table without numbers."""
    if model.embeddings:
        mean_length = float(model.embeddings.weight.norm(dim=1).mean())
        return PerturbationSpace(
            (0, 5, 20, 50),
            "hundredths of the length of a token's vector",
            mean_length / 100,
            is_euclidean=True,
        )
    if not model.columns:
        return PerturbationSpace((0, 2, 4, 8, 16, 32), "levels of 255", 1.0, (0.0, 255.0))
    mask = torch.zeros(model.columns[-1].span.stop)
    mask[[span.start for column, span in model.columns if isinstance(column, NumberColumn)]] = 1
    if not mask.any():
        return None
    return PerturbationSpace(
        (0, 5, 10, 20, 50, 100),
        "hundredths of a column's standard deviation",
        0.01,
        (-tabular.CLIP_STD, tabular.CLIP_STD),
        mask,
    )


def measure(context: EvaluationContext) -> AspectResult | None:
    """Measure the accuracy under attacks of growing strength.

    Returns None if there are no classes, or if the network's inputs have no gradients.
    """
    if context.problem.NAME != "classification":
        return None
    if not context.trainer.HAS_DIFFERENTIABLE_INPUTS:
        return None
    model = DifferentiableModel(context.trainer)
    space = build_perturbation_space(model)
    if space is None:
        return None
    sample = model.sample_rows(context.inputs, SAMPLE_SIZE, context.config.seed)
    rows = [context.inputs[row] for row in sample]
    targets = torch.from_numpy(context.targets[sample])
    withstood = {
        name: find_withstood(Attack(model, space, method), rows, targets)
        for name, method in METHODS.items()
    }
    metrics = {name: accuracy_by_strength(context, space, w) for name, w in withstood.items()}
    ids = context.test["id"].take(sample).to_pylist()
    search = ExampleSearch(Attack(model, space, METHODS["pgd"]), context.problem.labels, ids)
    examples = list(search.run(rows, targets, withstood["pgd"]))
    report = {"rows": len(rows), "unit": space.unit, "examples": examples}
    return AspectResult(metrics, report)


def find_withstood(attack: Attack, rows: list[Any], targets: torch.Tensor) -> NDArray[np.int64]:
    """Return the position of the strongest strength that each row withstands, -1 for none."""
    strengths = attack.space.strengths
    withstood = np.full(len(rows), -1)
    for whole in attack.model.batches(rows):
        batch = whole
        for position in reversed(range(len(strengths))):
            _, is_wrong = attack.run(batch, targets[batch.rows], strengths[position])
            withstood[np.array(batch.rows, int)[~is_wrong.numpy()]] = position
            batch = batch.take(is_wrong.nonzero()[:, 0])
    return withstood


def accuracy_by_strength(
    context: EvaluationContext, space: PerturbationSpace, withstood: NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """Return the fraction of rows that withstand each strength, with its interval."""
    return {
        str(strength): proportion_interval(withstood >= position, context.config)
        for position, strength in enumerate(space.strengths)
    }


@dataclass(frozen=True)
class ExampleSearch:
    """The search for the smallest change that makes the model err on some rows."""

    attack: Attack
    labels: list[str]
    ids: list[str]

    def run(
        self, rows: list[Any], targets: torch.Tensor, withstood: NDArray[np.int64]
    ) -> Iterator[JsonObject]:
        """Yield the examples for the report: rows that withstand some strength, but not all."""
        n_strengths = len(self.attack.space.strengths)
        is_flipped = (withstood >= 0) & (withstood < n_strengths - 1)
        flipped = np.flatnonzero(is_flipped)[:MAX_EXAMPLES]
        model = self.attack.model
        for batch in model.batches([rows[row] for row in flipped]):
            chosen = flipped[batch.rows]
            changed, strength = self.bisect(batch, targets[chosen], withstood[chosen])
            predicted = model.outputs(changed, *batch.rest).argmax(1)
            for position, row in enumerate(chosen):
                sides = render_change(model, rows[row], batch.inputs[position], changed[position])
                yield {
                    "id": self.ids[row],
                    "strength": round(float(strength[position]), 1),
                    "predicted": (self.labels[targets[row]], self.labels[predicted[position]]),
                    "before_and_after": sides,
                }

    def bisect(
        self, batch: DifferentiableBatch, targets: torch.Tensor, withstood: NDArray[np.int64]
    ) -> tuple[torch.Tensor, NDArray[np.float64]]:
        """Return the changed inputs and the smallest strength found to make each row err."""
        strengths = np.array(self.attack.space.strengths)
        low = strengths[withstood] * 1.0
        high = strengths[withstood + 1] * 1.0
        best = batch.inputs.clone()
        for bisection in range(N_BISECTIONS + 1):
            middle = (low + high) / 2 if bisection else high
            changed, is_wrong = self.attack.run(batch, targets, middle)
            low = np.where(is_wrong, low, middle)
            high = np.where(is_wrong, middle, high)
            best[is_wrong] = changed[is_wrong]
        return best, high


def render_change(
    model: DifferentiableModel, row: Any, before: torch.Tensor, after: torch.Tensor
) -> tuple[Markup, Markup]:
    """Return what changed.

    An image before and after, a text's tokens by how far they moved, or the columns of a table
    that moved most.
    """
    if isinstance(row, bytes):
        return render_image(before), render_image(after.round())
    if isinstance(row, str):
        distances = (after - before).norm(dim=1).tolist()
        return model.render_tokens(row, distances), Markup()
    numbers = [
        (column, span.start) for column, span in model.columns if isinstance(column, NumberColumn)
    ]
    numbers.sort(key=lambda item: (-abs(float((after - before)[item[1]])), item[1]))
    moved_most = numbers[:MAX_CELLS]
    return render_difference(cells_of(moved_most, before), cells_of(moved_most, after))


def cells_of(columns: list[tuple[NumberColumn, int]], features: torch.Tensor) -> dict[str, float]:
    """Return the cells that standardized features stand for, by column."""
    return {
        column.name: column.mean + column.std * float(features[position])
        for column, position in columns
    }
