"""Decide from the evaluation whether the model may be promoted, and say why.

    python -m tasks.gate support-desk

Writes gate.json. This stage judges what the data and the model decide: floors, ceilings and the
baseline. Rules on the champion depend on what is in production, so they are judged at promotion:
see tasks/gating/promotion_gate.py.
"""

from tasks.core.stage import main
from tasks.gating import preconditions, verdict
from tasks.recipe import resolved
from tasks.recipe.recipe import Recipe
from tasks.storage.layout import StagePaths


def gate(recipe_name: str) -> None:
    """Judge the model of a registered recipe."""
    paths = StagePaths.of_recipe(recipe_name)
    preconditions.require_passed_checks(paths)
    run(resolved.read_resolved_recipe(recipe_name), paths)


def run(recipe: Recipe, paths: StagePaths) -> None:
    """Write the verdict on the model that was evaluated, without a champion."""
    verdict.judge_model(recipe, paths, champion=None).write(paths.gate)


if __name__ == "__main__":
    main(gate)
