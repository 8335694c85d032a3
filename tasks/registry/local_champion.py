"""Local champion."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.core.errors import StageError
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing

CHAMPIONS_FOLDER = Path(
    ".millrace/champions"
)  # <recipe>/<version>/ has a version's files, <recipe>/production.json says which is in production


def record_champion(recipe: str, version: str | None, hashes: dict[str, str]) -> None:
    """Keep which version is in production, and the sha256 of its files."""
    files.write_json(
        CHAMPIONS_FOLDER / recipe / "production.json",
        {"version": version, "files": hashes} if version else None,
    )


def is_champion_needed(recipe: Recipe) -> bool:
    """Whether training starts from it or learns from it."""
    return recipe.train.warm_start or (
        recipe.export.distil is not None and recipe.export.distil.teacher == "champion"
    )


def read_champion(recipe: Recipe) -> Any:
    """What `note` kept, for a recipe that wants it; else None."""
    path = CHAMPIONS_FOLDER / recipe.name / "production.json"
    return files.read_json(path) if is_champion_needed(recipe) and path.is_file() else None


def verify_champion_files(
    key: str, recipe: Recipe, champion: dict[str, Any], names: Sequence[str]
) -> Path:
    """The champion's folder, in which these files have the bytes that were promoted."""
    folder = CHAMPIONS_FOLDER / recipe.name / str(champion["version"])
    for name in names:
        if not (folder / name).is_file() or hashing.sha256(folder / name) != champion["files"].get(
            name
        ):
            raise StageError(
                f"{key}: {folder / name} is not there with the bytes that were promoted: `millrace run {recipe.name}` fetches it again."
            )
    return folder
