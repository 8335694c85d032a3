"""What an aspect is given, and what it returns."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from tasks import modalities
from tasks.contracts.base import JsonObject
from tasks.contracts.model_info import ModelInfo
from tasks.modalities.base import Predictor, Trainer
from tasks.problems.base import Predictions, Problem, Targets
from tasks.recipe.evaluate import Evaluate
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage import files
from tasks.storage.layout import ModelFolder, StagePaths


@dataclass(frozen=True)
class AspectResult:
    """What one aspect measured.

    Attributes:
        metrics: Numbers for metrics.json, which the gate finds by their path.
        report: Whatever the aspect's part of the report shows.
        timings: Numbers for cost.json, which another run would measure differently.
    """

    metrics: JsonObject
    report: JsonObject = field(default_factory=dict)
    timings: JsonObject = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationContext:
    """A model, and the data that it is judged on.

    Attributes:
        recipe: The resolved recipe.
        model: The exported model's folder.
        predictor: The exported model, loaded as it is served.
        train: The rows that the model was trained on.
        val: The rows that chose its weights.
        test: The rows that it is judged on.
        inputs: The test rows as the model's inputs.
        targets: The test rows' targets, shape [rows, …].
        answers: The exported model's answers, shape [rows, width].
    """

    recipe: Recipe
    model: ModelFolder
    predictor: Predictor
    train: pa.Table
    val: pa.Table
    test: pa.Table
    inputs: list[Any]
    targets: Targets
    answers: Floats

    @classmethod
    def load(cls, recipe: Recipe, paths: StagePaths) -> "EvaluationContext":
        """Read the split and the model, and predict the test rows."""
        predictor = modalities.load_predictor(paths.model.path)
        test = files.read_table(paths.split.test)
        inputs = modalities.extract_inputs(recipe, test)
        return cls(
            recipe=recipe,
            model=paths.model,
            predictor=predictor,
            train=files.read_table(paths.split.train),
            val=files.read_table(paths.split.val),
            test=test,
            inputs=inputs,
            targets=predictor.problem.targets(test),
            answers=modalities.predict(predictor, inputs),
        )

    @property
    def problem(self) -> Problem:
        """What the model's labels mean."""
        return self.predictor.problem

    @property
    def config(self) -> Evaluate:
        """The recipe's section `evaluate`."""
        return self.recipe.evaluate

    @cached_property
    def info(self) -> ModelInfo:
        """The model's model.json."""
        return ModelInfo.read(self.model.info)

    @cached_property
    def predictions(self) -> Predictions:
        """The answers in the compact form that metrics are computed from."""
        return self.problem.compact_predictions(self.targets, self.answers)

    @cached_property
    def continuations(self) -> list[dict[str, str]]:
        """How a model that writes continues the prompts of some test rows."""
        return self.predictor.sample_continuations(self.inputs)

    @cached_property
    def trainer(self) -> Trainer:
        """The trained network in 32 bits, for what needs gradients: on the CPU, in eval mode."""
        config = Train.model_validate(self.info.train)
        modality = modalities.get_modality(self.recipe.modality)
        train_inputs = modalities.extract_inputs(self.recipe, self.train)
        trainer = modality.trainer(config, train_inputs, self.problem)
        trainer.network.load_state_dict(trainer.load_weights(self.model.path))
        trainer.network.eval()
        return trainer
