"""Base."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks import modalities
from tasks.modalities.base import Predictor, Trainer
from tasks.problems.base import Predictions, Problem, Targets
from tasks.recipe.recipe import Recipe
from tasks.recipe.train import Train
from tasks.statistics.array_types import Floats
from tasks.storage import files


@dataclass(frozen=True)
class AspectResult:
    """What one aspect has found: numbers for metrics.json, whatever its part of the report shows, and for cost.json what another moment would measure otherwise."""

    metrics: dict[str, Any]
    shown: dict[str, Any] = field(default_factory=dict)
    timed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationContext:
    """The model that is judged, in its folder, and all that it is judged on. Its inputs `rows`, `targets` and `answers` are those of the test split."""

    recipe: Recipe
    model: Path
    predictor: Predictor
    train: pa.Table
    val: pa.Table
    test: pa.Table
    rows: list[Any]
    targets: Targets
    answers: Floats

    @property
    def problem(self) -> Problem:
        return self.predictor.problem

    @cached_property
    def said(self) -> Predictions:
        return self.problem.compact_predictions(self.targets, self.answers)

    @cached_property
    def samples(self) -> list[dict[str, str]]:
        """How a model that writes goes on from the prompts of some test rows."""
        return self.predictor.sample_continuations(self.rows)

    @cached_property
    def trained(self) -> Trainer:
        """The adapter of training with the trained weights, for what needs gradients. Its network is in evaluation mode, on the CPU, with 32-bit weights."""
        from safetensors.torch import load_file

        section = Train.model_validate(files.read_json(self.model / "model.json")["train"])
        adapter: Trainer = modalities.modality_class(self.recipe.modality, "Trainer")(
            section, modalities.extract_inputs(self.recipe, self.train), self.problem
        )
        adapter.network.load_state_dict(load_file(self.model / "model.safetensors"))
        adapter.network.eval()
        return adapter
