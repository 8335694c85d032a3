"""What a label means: what a model learns, how it answers, and how its answers are judged.

Training, evaluation, the gate and serving use the same object. A new problem is one module with a
class, and its metrics in tasks/recipe/metric_names.py. Metrics are computed on weighted rows, so
the interval of each comes from the bootstrap (Efron and Tibshirani 1993). A resample says how
often each row is in it, the same for all models that are compared.
"""

import importlib

from tasks.contracts.model_info import ModelInfo
from tasks.problems.base import Problem


def problem_class(name: str) -> type[Problem]:
    """Return the class of a problem, such as `classification`."""
    module = importlib.import_module(f"tasks.problems.{name}")
    found_class: type[Problem] = getattr(module, f"{name.capitalize()}Problem")
    return found_class


def from_model_info(info: ModelInfo) -> Problem:
    """Return the problem that an exported model solves."""
    temperature = 1.0 if info.temperature is None else info.temperature
    return problem_class(info.problem)(info.labels, temperature=temperature)
