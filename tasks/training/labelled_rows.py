"""The rows of a split as a model sees them, before they are encoded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyarrow import Table

from tasks import modalities, problems
from tasks.modalities.base import InputRow, Trainer
from tasks.problems.base import Problem, Targets
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import SplitFolder
from tasks.training.training_data import TrainingData


@dataclass(frozen=True)
class LabelledRows:
    """Rows with their targets.

    Attributes:
        inputs: The model's input for each row, as its modality reads it.
        targets: What the labels become, `[rows, ...]`.
        ids: The rows' ids.
    """

    inputs: Sequence[InputRow]
    targets: Targets
    ids: Sequence[str]

    @classmethod
    def from_table(cls, recipe: Recipe, problem: Problem, table: Table) -> "LabelledRows":
        """Take inputs, targets and ids from a table."""
        inputs = modalities.extract_inputs(recipe, table)
        return cls(inputs, problem.targets(table), table["id"].to_pylist())

    def thin(self, max_rows: int) -> "LabelledRows":
        """Return every n-th row, so that `max_rows` or fewer are left."""
        step = math.ceil(len(self.inputs) / max_rows) or 1
        return LabelledRows(self.inputs[::step], self.targets[::step], self.ids[::step])


@dataclass(frozen=True)
class TrainingRows:
    """The rows of the split, and the problem that the training rows pose.

    Attributes:
        val: The rows to measure on; the training rows, if the validation split is empty.
        has_val: Whether the validation split has rows.
    """

    problem: Problem
    train: LabelledRows
    val: LabelledRows
    has_val: bool

    @classmethod
    def read(cls, recipe: Recipe, split: SplitFolder) -> "TrainingRows":
        """Read the rows of a split to train and to measure on."""
        val_table = files.read_table(split.val)
        return cls.from_tables(recipe, files.read_table(split.train), val_table)

    @classmethod
    def from_tables(cls, recipe: Recipe, train_table: Table, val_table: Table) -> "TrainingRows":
        """Take rows from tables; those to measure on need a label that can be learnt."""
        problem = problems.problem_class(recipe.problem).from_training_data(
            recipe.train, train_table
        )
        train_rows = LabelledRows.from_table(recipe, problem, train_table)
        if not val_table.num_rows:
            return cls(problem, train_rows, train_rows, has_val=False)
        val_rows = LabelledRows.from_table(recipe, problem, problem.filter_known_labels(val_table))
        return cls(problem, train_rows, val_rows, has_val=True)

    def encode(self, adapter: Trainer) -> TrainingData:
        """Encode the rows as the modality's trainer needs them."""
        return TrainingData(
            adapter.encode(self.train.inputs),
            self.train.targets,
            adapter.encode(self.val.inputs),
            self.val.targets,
            self.train.ids,
        )
