"""Recipes of the tests that run through the first stages."""

from pathlib import Path

import pyarrow as pa

from tasks import clean, ingest, label, split
from tasks.recipe.loading import read_recipe
from tasks.recipe.recipe import Recipe
from tasks.storage import files
from tasks.storage.layout import StagePaths
from tests.conftest import ROOT

RECIPES = ROOT / "tests" / "recipes"


def cleaned(made: Recipe, folder: Path, until: str = "split") -> pa.Table:
    """The rows after clean; label and split run too."""
    ingest.run(made, StagePaths(folder))
    clean.run(made, StagePaths(folder))
    if until == "split":
        label.run(made, StagePaths(folder))
        split.run(made, StagePaths(folder))
    return files.read_rows(folder / "clean")


def pointed(name: str, path: str) -> Recipe:
    """A recipe of this folder with its source elsewhere."""
    made = read_recipe(RECIPES / f"{name}.yaml")
    return made.model_copy(update={"ingest": made.ingest.model_copy(update={"path": path})})
