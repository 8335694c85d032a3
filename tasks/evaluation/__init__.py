"""Aspects: what an evaluation says of a model beside its metrics. One module each, with a function `measure` and a part of the report in pages/<name>.html.

What `measure` returns as metrics lies in metrics.json under the aspect's name, where a rule of the gate finds it by its path, such as
calibration.expected_calibration_error or slices.channel.email.accuracy. An aspect that this model or these data do not have returns None.
"""

import importlib

from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.recipe.metric_names import ASPECTS


def measure_aspects(case: EvaluationContext) -> dict[str, AspectResult]:
    """What each aspect has found, by its name."""
    found = {
        name: importlib.import_module(f"tasks.evaluation.{name}").measure(case) for name in ASPECTS
    }
    return {name: one for name, one in found.items() if one is not None}
