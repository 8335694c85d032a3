"""What training minimises: the loss of the problem, unless a teacher adds to it."""

from typing import Protocol

import torch

from tasks.problems.base import Problem, Targets
from tasks.problems.batch import Batch

LossAndWeight = tuple[torch.Tensor, float]  # a sum over rows or tokens, and how much they count


class Objective(Protocol):
    """A loss of training rows."""

    def loss(self, outputs: torch.Tensor, batch: Batch, rows: list[int]) -> LossAndWeight:
        """Return the summed loss of a batch and what to divide it by.

        Args:
            outputs: What the network computed, `[len(rows), ...]`.
            batch: What it computed this from.
            rows: The batch's rows, as indices of the training data.
        """


class ProblemObjective:
    """The problem's own loss against the targets of the training rows."""

    def __init__(self, problem: Problem, targets: Targets) -> None:
        self.problem = problem
        self.targets = torch.from_numpy(targets)  # [rows, ...]

    def loss(self, outputs: torch.Tensor, batch: Batch, rows: list[int]) -> LossAndWeight:
        """Return the problem's loss of these rows."""
        return self.problem.loss(outputs, batch, self.targets[rows].to(outputs.device))
