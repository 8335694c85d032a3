"""Resolved."""

from pathlib import Path

from tasks.recipe.recipe import Recipe
from tasks.storage import files, layout


def resolved_path(name: str) -> Path:
    return layout.recipe_folder(name) / "recipe.json"


def read_resolved_recipe(name: str) -> Recipe:
    """The resolved recipe, as the steps use it."""
    return Recipe.model_validate(
        {
            key: value
            for key, value in files.read_json(resolved_path(name)).items()
            if key != "sources"
        }
    )
