"""Problems: what a label means, and so what a model learns, how it answers, and by what its answers are judged and compared.

Training, evaluation, the gate and serving ask the same object. A new problem is one module with a class `Problem`, and its metrics in tasks/recipe.py.
Metrics are computed of weighted rows, so that the interval of any of them comes from the bootstrap (Efron and Tibshirani 1993): a resample is how often
each row is in it, the same for all models that are compared.
"""

import importlib

from tasks.contracts.model_info import ModelInfo
from tasks.problems.base import Problem


def problem_class(name: str) -> type[Problem]:
    module = importlib.import_module(f"tasks.problems.{name}")
    made: type[Problem] = getattr(module, f"{name.capitalize()}Problem")
    return made


def from_model_info(info: ModelInfo) -> Problem:
    """Return the problem that an exported model solves."""
    temperature = 1.0 if info.temperature is None else info.temperature
    return problem_class(info.problem)(info.labels, temperature=temperature)
