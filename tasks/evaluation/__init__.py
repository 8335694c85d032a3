"""Aspects: what an evaluation says of a model beside its metrics. One module each, with a function `measure` and a part of the report in pages/<name>.html.

What `measure` returns as metrics lies in metrics.json under the aspect's name, where a rule of the gate finds it by its path, such as
calibration.expected_calibration_error or slices.channel.email.accuracy. An aspect that this model or these data do not have returns None.
"""

import importlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import binomtest

from tasks import files, modalities
from tasks.modalities import Predictor
from tasks.problems import DIGITS, Floats, Problem, Said, Targets
from tasks.recipe import ASPECTS, Evaluate, Recipe, Train


@dataclass(frozen=True)
class Found:
    """What one aspect has found: numbers for metrics.json, whatever its part of the report shows, and for cost.json what another moment would measure otherwise."""

    metrics: dict[str, Any]
    shown: dict[str, Any] = field(default_factory=dict)
    timed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
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
    def said(self) -> Said:
        return self.problem.said(self.targets, self.answers)

    @cached_property
    def samples(self) -> list[dict[str, str]]:
        """How a model that writes goes on from the prompts of some test rows."""
        return self.predictor.samples(self.rows) if hasattr(self.predictor, "samples") else []

    @cached_property
    def trained(self) -> modalities.Trainer:
        """The adapter of training with the trained weights, for what needs gradients. Its network is in evaluation mode, on the CPU, with 32-bit weights."""
        from safetensors.torch import load_file

        section = Train.model_validate(files.read_json(self.model / "model.json")["train"])
        adapter: modalities.Trainer = modalities.module(self.recipe.modality).Trainer(
            section, modalities.rows(self.recipe, self.train), self.problem
        )
        adapter.network.load_state_dict(load_file(self.model / "model.safetensors"))
        adapter.network.eval()
        return adapter


def share(hits: NDArray[np.bool_], section: Evaluate) -> dict[str, float]:
    """The share of rows of which something is true, with its exact interval (Clopper and Pearson 1934)."""
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(section.confidence)
    return {
        name: round(float(value), DIGITS)
        for name, value in (("value", hits.mean()), ("low", low), ("high", high))
    }


def measured(case: Case) -> dict[str, Found]:
    """What each aspect has found, by its name."""
    found = {
        name: importlib.import_module(f"tasks.evaluation.{name}").measure(case) for name in ASPECTS
    }
    return {name: one for name, one in found.items() if one is not None}
