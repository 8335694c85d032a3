"""Distillation: the model learns from the labels and from what a teacher, another exported model, says of the same rows (Hinton et al. 2015)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import kl_div, log_softmax

from tasks import modalities
from tasks.core.errors import ConfigError
from tasks.modalities.base import Trainer
from tasks.problems.base import Problem
from tasks.problems.batch import Batch
from tasks.recipe.export import Distil


def add_teacher_loss(
    adapter: Trainer,
    section: Distil,
    teacher: Path,
    rows: Sequence[Any],
    targets: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Have the adapter's loss take in the `teacher`, the folder of an exported model; returns the targets to train it with, which are the numbers of the rows.

    The teacher is asked once for each row. Its part of the loss is the divergence (Kullback and Leibler) of the two predictions, softened by the temperature.
    """
    soft = torch.from_numpy(soften_teacher_predictions(section, teacher, rows, adapter.problem))
    hard, own_loss, own_prepare = torch.from_numpy(targets), adapter.problem.loss, adapter.prepare

    def loss(
        outputs: torch.Tensor, inputs: Batch, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        at = numbers.cpu()
        summed, weight = own_loss(outputs, inputs, hard[at].to(outputs.device))
        said = log_softmax(outputs.float() / section.temperature, 1)
        apart = kl_div(said, soft[at].to(outputs.device), reduction="sum") * section.temperature**2
        return (1 - section.weight) * summed + section.weight * apart, weight

    adapter.problem.loss = loss  # type: ignore[assignment, method-assign]
    adapter.prepare = lambda examples, numbers: own_prepare(examples, targets)  # type: ignore[assignment, method-assign]
    return np.arange(len(targets))


def soften_teacher_predictions(
    section: Distil, folder: Path, rows: Sequence[Any], problem: Problem
) -> NDArray[np.float32]:
    """What the teacher says of each row, shape (rows, labels)."""
    teacher = modalities.load_predictor(folder, 1)
    labels = problem.labels
    if sorted(teacher.labels) != labels or teacher.problem.NAME != problem.NAME:
        raise ConfigError(
            f"export.distil.teacher: {section.teacher} knows the classes {', '.join(sorted(teacher.labels)[:10])}, "
            f"but the training rows have {', '.join(labels[:10])}: name a model of the same classes."
        )
    said = modalities.predict(teacher, rows)[:, [teacher.labels.index(label) for label in labels]]
    return problem.decode_outputs(np.log(np.clip(said, 1e-12, 1)) / section.temperature).astype(
        np.float32
    )
