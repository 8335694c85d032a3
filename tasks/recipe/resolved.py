"""Resolved."""

from pathlib import Path

from tasks.recipe.recipe import Recipe
from tasks.storage import files, layout


def path_of(name: str) -> Path:
    return layout.folder_of(name) / "recipe.json"


def read(name: str) -> Recipe:
    """The resolved recipe, as the steps use it."""
    return Recipe.model_validate(
        {key: value for key, value in files.read_json(path_of(name)).items() if key != "sources"}
    )
