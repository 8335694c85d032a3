"""Aspects: what an evaluation measures besides the metrics.

Each aspect is a module with a function `measure(context)` and a part of the report in
reports/templates/<name>.html. Its numbers lie in metrics.json under its name, where a rule of the
gate finds them by path, such as calibration.expected_calibration_error. An aspect that a model or
its data do not have returns None.
"""

import importlib

from tasks.evaluation.base import AspectResult, EvaluationContext
from tasks.recipe.metric_names import ASPECTS


def measure_aspects(context: EvaluationContext) -> dict[str, AspectResult]:
    """Measure every aspect that this model and its data have, in the order of the report."""
    results: dict[str, AspectResult] = {}
    for name in ASPECTS:
        result = importlib.import_module(f"tasks.evaluation.{name}").measure(context)
        if result is not None:
            results[name] = result
    return results
