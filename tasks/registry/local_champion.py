"""The champion on this machine's disk, for recipes that start from it or learn from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.contracts.base import Record
from tasks.core.errors import StageError
from tasks.recipe.recipe import Recipe
from tasks.storage import files, hashing

# <recipe>/<version>/ holds a version's files; <recipe>/production.json names the champion.
CHAMPIONS_FOLDER = Path(".millrace/champions")


class LocalChampion(Record):
    """The version that was in production when a run began, and the sha256 of its files."""

    version: str
    files: dict[str, str]


def record_path(recipe: str) -> Path:
    """Return the file that says which version of a recipe is in production."""
    return CHAMPIONS_FOLDER / recipe / "production.json"


def version_folder(recipe: str, version: str) -> Path:
    """Return the folder with the files of a version."""
    return CHAMPIONS_FOLDER / recipe / version


def record_champion(recipe: str, version: str | None, hashes: Mapping[str, str]) -> None:
    """Record which version is in production, if any, with the sha256 of its files."""
    champion = LocalChampion(version=version, files=dict(hashes)).model_dump() if version else None
    files.write_json(record_path(recipe), champion)


def is_champion_needed(recipe: Recipe) -> bool:
    """Return whether training starts from the champion or learns from it."""
    distil = recipe.export.distil
    is_teacher = distil is not None and distil.teacher == "champion"
    return recipe.train.warm_start or is_teacher


def read_champion(recipe: Recipe) -> LocalChampion | None:
    """Read the recorded champion; None if there is none or the recipe does not need it."""
    path = record_path(recipe.name)
    if not is_champion_needed(recipe) or not path.is_file():
        return None
    content = files.read_json(path)
    return LocalChampion.model_validate(content) if content else None


def verify_champion_files(
    key: str, recipe: Recipe, champion: LocalChampion, names: Sequence[str]
) -> Path:
    """Return the champion's folder after checking that files have the bytes that were promoted.

    Args:
        key: The key of the recipe that needs them, for the message.
        recipe: The recipe.
        champion: The champion as it was recorded.
        names: The files to check.

    Raises:
        StageError: A file is missing or has other bytes.
    """
    folder = version_folder(recipe.name, champion.version)
    for name in names:
        path = folder / name
        if not path.is_file() or hashing.sha256(path) != champion.files.get(name):
            raise StageError(
                f"{key}: {path} is missing or does not have the bytes that were promoted: "
                f"`millrace run {recipe.name}` fetches it again."
            )
    return folder
