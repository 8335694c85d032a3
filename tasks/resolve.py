"""Resolve: the recipe, checked and with its defaults, and fingerprints of the sources it names.

    python -m tasks.resolve support-desk

Every later stage depends on its own sections of the result, so a changed key, default or source
row makes stale what it touches and nothing else.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks import sources
from tasks.cleaning import pii_encryption
from tasks.core.errors import ConfigError, StageError
from tasks.core.stage import main
from tasks.recipe import resolved
from tasks.recipe.export import Distil
from tasks.recipe.label import (
    Label,
    LabellingFunction,
    LookupFunction,
    ModelFunction,
    SimilarityFunction,
)
from tasks.recipe.loading import load_recipe
from tasks.recipe.recipe import Recipe
from tasks.recipe.resolved import ResolvedRecipe, SourceFingerprints
from tasks.registry import local_champion
from tasks.storage import hashing
from tasks.storage.layout import ModelFolder

MODEL_DESCRIPTIONS = ("model.json", "config.json")  # of an exported model, and of a base


def resolve(recipe_name: str) -> None:
    """Write the resolved recipe, unless only the champion has changed."""
    path = resolved.resolved_path(recipe_name)
    new = resolve_recipe(load_recipe(recipe_name))
    previous = read_previous(path)
    if previous is None or not differs_at_most_in_champion(previous, new):
        new.write(path)


def is_outdated(recipe_name: str) -> bool:
    """Tell whether a source has changed since; DVC sees that only below data/sources."""
    previous = read_previous(resolved.resolved_path(recipe_name))
    new = resolve_recipe(load_recipe(recipe_name))
    return previous is None or not differs_at_most_in_champion(previous, new)


def resolve_recipe(recipe: Recipe) -> ResolvedRecipe:
    """Look up the version of everything that the recipe names.

    Raises:
        StageError: Something that it names does not exist.
    """
    champion = local_champion.read_champion(recipe)
    fingerprints = SourceFingerprints(
        ingest=sources.list_partition_versions(recipe.ingest),
        clean=pii_encryption.compute_key_id(recipe.clean.rules),
        serving=recipe.clean.last_arguments("resize"),
        label=hash_label_files(recipe.label),
        train=champion.model_dump() if champion else None,
        export=hash_teacher(recipe.export.distil),
        libraries=hashing.read_library_versions(),
    )
    return ResolvedRecipe(recipe=recipe, sources=fingerprints)


def hash_label_files(label: Label) -> dict[str, str | dict[str, str]]:
    """Hash the files and folders that the section label names."""
    hashes: dict[str, str | dict[str, str]] = {}
    for key, name in list_label_files(label):
        hashes[name] = hash_label_file(key, Path(name))
    return hashes


def hash_label_file(key: str, path: Path) -> str | dict[str, str]:
    """Hash a file, or the files of a model's folder.

    Raises:
        StageError: It does not exist, or is the folder of no model.
    """
    if not path.exists():
        raise StageError(f"{key}: {path} does not exist: put it there or correct the path.")
    if not path.is_dir():
        return hashing.sha256(path)
    if not any((path / name).is_file() for name in MODEL_DESCRIPTIONS):
        raise StageError(
            f"{key}: {path} is a folder without a model ({' or '.join(MODEL_DESCRIPTIONS)}): "
            "correct the path."
        )
    return hashing.hash_folder(path)


def list_label_files(label: Label) -> Iterator[tuple[str, str]]:
    """List the paths that the section label names, each after its key."""
    for path in list_answer_files(label):
        yield "label.answers", path
    for number, function in enumerate(label.functions):
        for key, path in list_function_files(function):
            yield f"label.functions[{number}].{key}", path


def list_answer_files(label: Label) -> Sequence[str]:
    """List the files with people's answers: one or several."""
    return [label.answers] if isinstance(label.answers, str) else label.answers


def list_function_files(function: LabellingFunction) -> Iterator[tuple[str, str]]:
    """List the paths that a labelling function names, each after its key."""
    match function:
        case LookupFunction():
            yield "file", function.file
        case ModelFunction():
            yield "path", function.path
        case SimilarityFunction() if Path(function.base).is_dir():  # else a package or of the Hub
            yield "base", function.base


def hash_teacher(distil: Distil | None) -> dict[str, str]:
    """Hash the files of the model that teaches; the champion is a fingerprint of its own."""
    if distil is None or distil.teacher == "champion":
        return {}
    folder = Path(distil.teacher)
    if not ModelFolder(folder).info.is_file():
        raise ConfigError(
            f"export.distil.teacher: {distil.teacher} holds no model.json: name the folder of an "
            "exported model, or champion."
        )
    return hashing.hash_folder(folder)


def read_previous(path: Path) -> ResolvedRecipe | None:
    """Read the recipe as it was resolved before; None if it was not, or by another version."""
    try:
        return ResolvedRecipe.read(path)
    except StageError:
        return None


def differs_at_most_in_champion(previous: ResolvedRecipe, new: ResolvedRecipe) -> bool:
    """Compare two resolved recipes: another champion alone is no reason to train again."""
    sources_with_champion = new.sources.model_copy(update={"train": previous.sources.train})
    same = new.model_copy(update={"sources": sources_with_champion})
    return same.to_json() == previous.to_json()


if __name__ == "__main__":
    main(resolve)
