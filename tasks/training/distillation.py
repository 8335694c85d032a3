"""Distillation: the model learns from labels and from the predictions of a teacher.

The teacher is another exported model of the same classes (Hinton et al. 2015).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import kl_div, log_softmax

from tasks import modalities
from tasks.core.errors import ConfigError
from tasks.modalities.base import InputRow
from tasks.problems.base import Problem
from tasks.problems.batch import Batch
from tasks.recipe.export import Distil
from tasks.statistics.array_types import Floats
from tasks.training.labelled_rows import LabelledRows
from tasks.training.objective import LossAndWeight, Objective, ProblemObjective

MIN_PROBABILITY = 1e-12  # below it a teacher's probability counts as this, since log(0) is infinite


class DistilledObjective:
    """The weighted mean of the loss against labels and the divergence from a teacher."""

    def __init__(self, config: Distil, labels: Objective, soft_targets: Floats) -> None:
        """Combine two losses.

        Args:
            config: The weight of the teacher, and the temperature that softens predictions.
            labels: The loss against the labels.
            soft_targets: The softened predictions of the teacher, `[rows, classes]`.
        """
        self.config = config
        self.labels = labels
        self.soft_targets = torch.from_numpy(soft_targets)

    def loss(self, outputs: torch.Tensor, batch: Batch, rows: list[int]) -> LossAndWeight:
        """Return the summed loss of these rows.

        The teacher's part is the Kullback-Leibler divergence of the softened predictions, times
        the square of the temperature, so that its gradients keep their size.
        """
        temperature = self.config.temperature
        label_loss, n_rows = self.labels.loss(outputs, batch, rows)
        log_probabilities = log_softmax(outputs.float() / temperature, 1)  # [rows, classes]
        soft_targets = self.soft_targets[rows].to(outputs.device)  # [rows, classes]
        divergence = kl_div(log_probabilities, soft_targets, reduction="sum") * temperature**2
        weight = self.config.weight
        return (1 - weight) * label_loss + weight * divergence, n_rows


def build_objective(
    config: Distil, teacher: Path, rows: LabelledRows, problem: Problem
) -> DistilledObjective:
    """Build the loss of rows that a teacher, the folder of an exported model, adds to.

    Raises:
        ConfigError: The teacher has other classes than the rows.
    """
    soft_targets = soften_teacher_predictions(config, teacher, rows.inputs, problem)
    labels = ProblemObjective(problem, rows.targets)
    return DistilledObjective(config, labels, soft_targets)


def soften_teacher_predictions(
    config: Distil, folder: Path, rows: Sequence[InputRow], problem: Problem
) -> Floats:
    """Return the teacher's predictions of the training rows, softened, `[rows, classes]`.

    Raises:
        ConfigError: The teacher has other classes than the training rows.
    """
    teacher = modalities.load_predictor(folder, 1)
    if sorted(teacher.labels) != problem.labels or teacher.problem.NAME != problem.NAME:
        raise ConfigError(
            f"export.distil.teacher: {config.teacher} knows the classes "
            f"{', '.join(sorted(teacher.labels)[:10])}, but the training rows have "
            f"{', '.join(problem.labels[:10])}: name a model of the same classes."
        )
    columns = [teacher.labels.index(label) for label in problem.labels]
    probabilities = modalities.predict(teacher, rows)[:, columns]  # [rows, classes]
    logits = np.log(np.clip(probabilities, MIN_PROBABILITY, 1)) / config.temperature
    softened: Floats = problem.decode_outputs(logits).astype(np.float32)
    return softened
